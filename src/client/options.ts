import type { Clock } from "../clock.js";
import { limits } from "../core/limits.js";
import { CairnError } from "../errors.js";

/** How long a call may take, unless its caller says otherwise, in ms: enough for a cluster to elect another leader, twice. */
export const DEFAULT_TIMEOUT_MS = 10_000;

/** Longest time that a timer can wait, in ms. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** How to reach a cluster. */
export interface ClientOptions {
  /**
   * Where nodes of the cluster listen, as host:port. The client finds the leader through any of them, and follows it when it changes. Name
   * all members: those that are named are all that can be asked when the leader is gone.
   */
  readonly endpoints: readonly string[];
  /** How long a call may take, from the moment it is made, in ms: above 0 and up to 2^31 - 1. Default 10,000. */
  readonly timeoutMs?: number | undefined;
  /**
   * Under which name the cluster remembers the answers to this client's writes: 1 to 256 bytes. Default: a random one, which is what you
   * want. Two clients with one name, also one after the other, would get each other's answers in place of their own writes.
   */
  readonly clientId?: string | undefined;
  readonly clock?: Clock | undefined;
  /** Random numbers from 0 to below 1, for the pauses between attempts. */
  readonly random?: (() => number) | undefined;
}

/** What may be said about one call. */
export interface CallOptions {
  /**
   * Gives the call up. Before a write was sent: CANCELLED, and nothing happened. Afterwards: OUTCOME_UNKNOWN, for it may still take
   * effect. The reason is the error's cause.
   */
  readonly signal?: AbortSignal | undefined;
  /** Gives the call up after this many ms, in place of the client's own time limit. TIMEOUT or OUTCOME_UNKNOWN, as for `signal`. */
  readonly timeoutMs?: number | undefined;
}

/** @throws CairnError INVALID_ARGUMENT */
export function checkTimeout(timeoutMs: number): number {
  if (timeoutMs > 0 && timeoutMs <= TIMEOUT_MS_MAX) return timeoutMs;
  throw new CairnError("INVALID_ARGUMENT", `timeoutMs must be above 0 and up to ${TIMEOUT_MS_MAX}, not ${timeoutMs}`);
}

/** @throws CairnError INVALID_ARGUMENT */
export function checkEndpoints(endpoints: readonly string[]): readonly string[] {
  if (endpoints.length === 0) throw new CairnError("INVALID_ARGUMENT", "endpoints is empty: name a node as host:port");
  for (const endpoint of endpoints) {
    if (/^.+:\d{1,5}$/.test(endpoint)) continue;
    throw new CairnError("INVALID_ARGUMENT", `endpoint ${JSON.stringify(endpoint)} must be host:port`);
  }
  return [...new Set(endpoints)];
}

/** @throws CairnError LIMIT_EXCEEDED or INVALID_ARGUMENT */
export function checkClientId(clientId: string): string {
  const bytes = Buffer.byteLength(clientId);
  if (bytes === 0) throw new CairnError("INVALID_ARGUMENT", "clientId is empty");
  if (bytes <= limits.clientIdBytes) return clientId;
  throw new CairnError(
    "LIMIT_EXCEEDED",
    `clientId has ${bytes} bytes; the limit clientIdBytes is ${limits.clientIdBytes}`,
  );
}
