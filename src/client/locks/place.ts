import { checkedUtf8, checkText } from "../../base/arguments.js";
import { CairnError, hasCode } from "../../base/errors.js";
import { checkKey } from "../../base/key_checks.js";
import type { Clock } from "../../system/clock.js";
import type { LeaseHandle } from "../leases/lease.js";
import type { GrantOptions } from "../leases/leases.js";
import type { CallOptions, RangeOptions } from "../options.js";
import { type Condition, compare } from "../txn/conditions.js";
import { op } from "../txn/steps.js";
import type { Txn } from "../txn/txn.js";
import type { KeyValue, Value } from "../values.js";
import type { WatchEvent } from "../watch/watch_events.js";
import { joinedSignal } from "./joined_signal.js";

// A queue of keys. Each candidate creates a key of its own, attached to its lease, under the
// queue's prefix. The key that was created first is at the head: its owner holds the lock, or
// leads. Each other candidate watches only the key that was created right before its own, so the
// end of one wakes one.

/** Time for the cluster to take note that a candidate has given up, in ms. */
const WITHDRAWAL_MS = 2_000;

/** Digits of a lease's id in a key. */
const ID_DIGITS = 12;

/** The parts of a client that queues use. */
export interface QueueClient {
  readonly clock: Clock;
  grant(options: GrantOptions): Promise<LeaseHandle>;
  txn(): Txn;
  range(options: RangeOptions): AsyncIterable<KeyValue>;
  /** Resolves when the key does not exist. */
  untilMissing(key: Uint8Array, signal: AbortSignal): Promise<void>;
}

/** The lease of a candidate. */
export interface QueueTimes {
  readonly ttlMs: number;
  readonly maxBlockedMs?: number | undefined;
}

/**
 * Returns the prefix of a queue's keys. Any text may be the name of one: its encoding has no slash,
 * so that no queue has keys of another.
 * @throws CairnError INVALID_ARGUMENT, LIMIT_EXCEEDED
 */
export function queuePrefix(kind: "lock" | "election" | "once", name: string): string {
  checkedUtf8("name", checkText("name", name));
  const prefix = `_${kind}/${encodeURIComponent(name)}/`;
  checkKey(Buffer.from(prefix + "0".repeat(ID_DIGITS)));
  return prefix;
}

/** Waits until a key does not exist; `events` are those of a watch of it, which lists it first. */
export async function untilMissing(events: AsyncIterable<WatchEvent>): Promise<void> {
  let exists = false;
  for await (const { type } of events) {
    if (type === "restarted") exists = false;
    else if (type === "existing") exists = true;
    else if (type === "delete" || (type === "listed" && !exists)) return;
  }
}

/** A candidate's place in a queue. */
export class QueuePlace {
  /** The condition of a transaction that this place is still taken. */
  readonly fence: Condition;

  private constructor(
    private readonly client: QueueClient,
    private readonly prefix: string,
    readonly key: string,
    /** Index at which the key was created. */
    readonly token: number,
    readonly lease: LeaseHandle,
  ) {
    this.fence = compare(key).createVersion("=", token);
  }

  /**
   * Takes the last place.
   * @throws CairnError LEASE_NOT_FOUND when the lease has ended before the place was taken
   */
  static async take(
    client: QueueClient,
    prefix: string,
    value: Value,
    times: QueueTimes,
    options: CallOptions,
  ): Promise<QueuePlace> {
    const lease = await client.grant({ ...times, ...options });
    const key = prefix + lease.id.toString(16).padStart(ID_DIGITS, "0");
    try {
      // From here on, a blocked event loop does not end the lease.
      const kept = lease.keepAlive();
      kept.catch(() => {});
      const { version } = await client
        .txn()
        .then(op.put(key, value, { lease }))
        .commit(options);
      await kept;
      return new QueuePlace(client, prefix, key, version, lease);
    } catch (error) {
      await lease.revoke({ timeoutMs: WITHDRAWAL_MS }).catch(() => {});
      throw error;
    }
  }

  /**
   * Waits until this place is the first. `mayWait` is asked before each wait, and throws when the
   * candidate does not want to wait.
   * @throws CairnError LEASE_NOT_FOUND when the place is lost
   */
  async untilFirst(options: CallOptions, signal: AbortSignal, mayWait: (before: KeyValue) => void): Promise<void> {
    const { signal: joined, end } = joinedSignal([signal, this.lease.signal]);
    try {
      for (;;) {
        const before = await this.#before({ ...options, signal: joined });
        this.lease.throwIfLost();
        if (before === undefined) return;
        mayWait(before);
        await this.client.untilMissing(before.keyBytes, joined);
      }
    } catch (error) {
      this.lease.throwIfLost();
      throw error;
    } finally {
      end();
    }
  }

  /** Gives the place up. If the cluster cannot be told, the place ends with its lease. */
  async withdraw(): Promise<void> {
    await this.lease.revoke({ timeoutMs: WITHDRAWAL_MS }).catch(() => {});
  }

  /** Returns the key that was created right before this one; undefined: this one is the first. */
  async #before(options: CallOptions): Promise<KeyValue | undefined> {
    let before: KeyValue | undefined;
    let isThere = false;
    for await (const entry of this.client.range({ prefix: this.prefix, ...options })) {
      isThere ||= entry.createVersion === this.token;
      if (entry.createVersion < this.token && entry.createVersion > (before?.createVersion ?? 0)) before = entry;
    }
    if (isThere) return before;
    throw new CairnError("LEASE_NOT_FOUND", `the key ${this.key} is gone: its lease has ended, or somebody removed it`);
  }
}

/**
 * Takes a place and waits until it is the first; takes another one when it is lost meanwhile.
 * @throws CairnError CANCELLED, or the error of `mayWait`
 */
export async function reachHead(
  client: QueueClient,
  prefix: string,
  value: Value,
  times: QueueTimes,
  options: CallOptions,
  signal: AbortSignal,
  mayWait: (before: KeyValue) => void,
): Promise<QueuePlace> {
  const callOptions = { ...options, signal };
  for (;;) {
    let place: QueuePlace | undefined;
    try {
      place = await QueuePlace.take(client, prefix, value, times, callOptions);
      await place.untilFirst(callOptions, signal, mayWait);
      return place;
    } catch (error) {
      await place?.withdraw();
      if (signal.aborted) throw reasonOf(signal);
      if (!hasCode(error, "LEASE_NOT_FOUND")) throw error;
    }
  }
}

function reasonOf(signal: AbortSignal): CairnError {
  const { reason } = signal;
  if (reason instanceof CairnError) return reason;
  return new CairnError("CANCELLED", "the caller gave up", { cause: reason });
}
