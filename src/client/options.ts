import { isAddress } from "../base/addresses.js";
import { invalid } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import type { Clock } from "../system/clock.js";

/**
 * How long a call may take, unless its caller says otherwise, in ms: enough for a cluster to elect
 * another leader, twice.
 */
export const DEFAULT_TIMEOUT_MS = 10_000;

/** Longest time that a timer can wait, in ms. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** How to reach a cluster. */
export interface ClientOptions {
  /**
   * Where nodes of the cluster listen, as host:port. The client finds the leader through any of
   * them, and follows it when it changes. Name all members: those that are named are all that can
   * be asked when the leader is gone.
   */
  readonly endpoints: readonly string[];
  /**
   * How long the cluster may take to answer a call, in ms: above 0 and up to 2^31 - 1. Default
   * 10,000. A call that waits for its turn behind others of this client has its full time as long
   * as those are answered. A `signal` bounds both together.
   */
  readonly timeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
  /** Random numbers from 0 to below 1, for the pauses between attempts. */
  readonly random?: (() => number) | undefined;
}

/** What may be said about one call. */
export interface CallOptions {
  /**
   * Gives the call up. Before a write was sent: CANCELLED, and nothing happened. Afterwards:
   * OUTCOME_UNKNOWN, for it may still take effect. The reason is the error's cause.
   * `AbortSignal.timeout(ms)` is a deadline that counts from this moment, whatever the call waits
   * for.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * In place of the client's own `timeoutMs`. Gives the call up with TIMEOUT or OUTCOME_UNKNOWN, as
   * for `signal`.
   */
  readonly timeoutMs?: number | undefined;
}

/** @throws CairnError INVALID_ARGUMENT */
export function checkTimeout(timeoutMs: number): number {
  if (typeof timeoutMs === "number" && timeoutMs > 0 && timeoutMs <= TIMEOUT_MS_MAX) return timeoutMs;
  throw invalid("timeoutMs", `above 0 and up to ${TIMEOUT_MS_MAX}`, timeoutMs);
}

/** @throws CairnError INVALID_ARGUMENT */
export function checkEndpoints(endpoints: readonly string[]): readonly string[] {
  if (!Array.isArray(endpoints)) throw invalid("endpoints", "a list of host:port", endpoints);
  if (endpoints.length === 0) throw new CairnError("INVALID_ARGUMENT", "endpoints is empty: name a node as host:port");
  return [...new Set(endpoints.map((endpoint) => checkEndpoint("endpoint", endpoint)))];
}

/** @throws CairnError INVALID_ARGUMENT */
export function checkEndpoint(what: string, endpoint: string): string {
  if (typeof endpoint === "string" && isAddress(endpoint)) return endpoint;
  throw invalid(what, "host:port", endpoint);
}
