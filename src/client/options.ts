import { isAddress } from "../base/addresses.js";
import { checkFlag, checkObject, checkWholeNumber, invalid, TIMER_MS_MAX } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import type { Clock } from "../system/clock.js";
import type { ConnectionOptions } from "./security/connection.js";
import type { Key } from "./values.js";

/** Default time limit of a call, in ms: enough for a cluster to elect a leader twice. */
export const DEFAULT_TIMEOUT_MS = 10_000;

/** Tells a client how to reach its cluster. */
export interface ClientOptions extends ConnectionOptions {
  /**
   * Addresses of nodes of the cluster, as host:port. The client finds the leader through any of
   * them, and follows it when it changes. Name all members: when the leader is gone, the client can
   * ask only those that are named.
   */
  readonly endpoints: readonly string[];
  /**
   * Time limit for the cluster to answer a call, in ms: above 0 and up to 2^31 - 1. Default 10,000.
   * A call that waits in this client behind others keeps its full time while the cluster answers
   * those. A `signal` bounds both together.
   */
  readonly timeoutMs?: number | undefined;
  /**
   * Keeps leases alive in a worker thread, which starts with the first lease: a blocked event loop
   * then does not end them. Default true. In a bundle, which has no file for the thread, set it to
   * false; the client's event loop then keeps them.
   */
  readonly leaseThread?: boolean | undefined;
  readonly clock?: Clock | undefined;
  /** Returns random numbers from 0 to below 1, for the pauses between attempts. */
  readonly random?: (() => number) | undefined;
}

/** Options of one call. */
export interface CallOptions {
  /**
   * Gives the call up. Before a write was sent: CANCELLED, and nothing happened. Afterwards:
   * OUTCOME_UNKNOWN, because the write may still take effect. The signal's reason is the error's
   * cause. `AbortSignal.timeout(ms)` sets a deadline that counts from the moment the signal is
   * made, and includes the time that the call waits in this client.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * Overrides the client's `timeoutMs`. Gives the call up with TIMEOUT or OUTCOME_UNKNOWN, as for
   * `signal`.
   */
  readonly timeoutMs?: number | undefined;
}

/** Options of a read. */
export interface ReadOptions extends CallOptions {
  /**
   * Reads the state of any node, which may be behind; works also without a leader. Default false:
   * the read is linearizable, so it sees every write that was answered before the read was made, by
   * any client.
   */
  readonly stale?: boolean | undefined;
  /**
   * With `stale`: wait until the node has applied this index, such as a version that a write has
   * returned. Default 0: do not wait.
   */
  readonly minAppliedIndex?: number | undefined;
}

export interface RangeOptions extends ReadOptions {
  /** Only keys that start with this. Default: all. */
  readonly prefix?: Key | undefined;
  /** Only keys above this one, in the order of their bytes. Default: all. */
  readonly after?: Key | undefined;
  /** Largest number of keys, 1 or more. Default: all. */
  readonly limit?: number | undefined;
  /**
   * Number of keys to read at a time; each page shows the state at its own moment. Default: all
   * keys come from one state, which the server retains while they are read. Set a page size when
   * the read takes minutes: it costs the server nothing between pages, and a page that fails is
   * read again.
   */
  readonly pageSize?: number | undefined;
}

/** A lease in the cluster: its handle, or `{ id }`. */
export interface LeaseRef {
  readonly id: number;
}

/** Options of a put. */
export interface PutOptions extends CallOptions {
  /**
   * Attach the key to this lease: it is removed together with it. Default: to none. When the lease
   * does not exist, the put fails with LEASE_NOT_FOUND, and nothing happens.
   */
  readonly lease?: LeaseRef | undefined;
}

export interface ConditionalOptions extends CallOptions {
  /** Change the key only if this is its version; 0: only if it does not exist. */
  readonly ifVersion: number;
}

/** Returns the lease's id as messages have it; 0: none. @throws CairnError INVALID_ARGUMENT */
export function leaseIdOf(lease: LeaseRef | undefined): bigint {
  return lease === undefined ? 0n : BigInt(checkWholeNumber("lease.id", checkObject("lease", lease).id, 1));
}

/** @throws CairnError INVALID_ARGUMENT */
export function checkTimeout(timeoutMs: number): number {
  if (typeof timeoutMs === "number" && timeoutMs > 0 && timeoutMs <= TIMER_MS_MAX) return timeoutMs;
  throw invalid("timeoutMs", `above 0 and up to ${TIMER_MS_MAX}`, timeoutMs);
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

/** @throws CairnError INVALID_ARGUMENT */
export function readsStale(options: ReadOptions): boolean {
  return checkFlag("stale", checkObject("options", options).stale);
}

/** @throws CairnError INVALID_ARGUMENT */
export function ifVersionIn(options: CallOptions | ConditionalOptions): number | undefined {
  const { ifVersion } = checkObject("options", options) as Partial<ConditionalOptions>;
  return ifVersion === undefined ? undefined : checkWholeNumber("ifVersion", ifVersion, 0);
}

/** Returns the options that every call has. */
export function callOptionsIn({ signal, timeoutMs }: CallOptions): CallOptions {
  return { signal, timeoutMs };
}
