import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import type { StateMachine } from "../state_machine.js";
import type { ChangeHistory } from "./effects/change_history.js";
import type { StoredLease } from "./leases/lease_store.js";
import type { KeyEntry, KeyRecord } from "./record_store.js";

/** Options of a read of several keys. */
export interface KeyRangeOptions {
  /** Only keys that start with this; empty: all. */
  readonly prefix?: Uint8Array | undefined;
  /** Only keys above this; empty: all. */
  readonly after?: Uint8Array | undefined;
  /** At most this many keys, from 1; absent: all. */
  readonly limit?: number | undefined;
}

/** Says whether a store wants a flush point although nothing is written. */
export interface StoreUpkeep {
  /** Whether a flush point would free room, and nothing is being written to tables. */
  readonly isWanted: boolean;
  /** Whether it must drain for that. */
  readonly drains: boolean;
  /** Bytes written since the last flush point: it stays as it is while nothing is written. */
  readonly charge: number;
}

/**
 * Cairn's own state machine: keys with values and versions, and the sessions of clients. Entries
 * carry a cairn.v1.Command.
 */
export interface KeyValueMachine extends StateMachine<CommandResult> {
  /** Returns a key's record in the present state; the caller may keep it. */
  get(key: Uint8Array): KeyRecord | undefined;
  /**
   * Yields keys in ascending order of their bytes, all as they are at this call, however long the
   * reading takes.
   */
  range(options?: KeyRangeOptions): KeyRange;
  /** The changes that the applied entries have made. @internal */
  readonly history: ChangeHistory;
  /** Returns a lease in the present state. */
  lease(id: number): StoredLease | undefined;
  /** Returns up to `limit` leases above `after`, in ascending order of id. */
  leases(after: number, limit: number): StoredLease[];
  /** Returns the keys of a lease, in ascending order of their bytes; the caller may keep them. */
  leaseKeys(id: number): Uint8Array[];
  /** @internal */
  readonly newestRules: number;
  /** @internal */
  readonly rulesInForce: number;
  /** About, on a machine whose puts do not look at their keys. */
  readonly keyCount: number;
  readonly sessionCount: number;
  /** Work of the store that waits for writes; absent on a machine without flush points. */
  readonly upkeep?: StoreUpkeep;
  readonly leaseCount: number;
}

/**
 * Keys being read. A range keeps the state as it was, so its owner must read it to its end, leave
 * the `for...of` loop over it, or close it. The caller may keep the entries.
 */
export class KeyRange implements IterableIterator<KeyEntry> {
  #ended = false;
  #failure: Error | undefined;

  /** `release` frees the source of the entries; called once. */
  constructor(
    private readonly entries: Iterator<KeyEntry>,
    private readonly release: (range: KeyRange) => void,
  ) {}

  /**
   * Throws when {@link fail} cut the range short: a partial answer must not look like a whole one.
   */
  next(): IteratorResult<KeyEntry, undefined> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) return DONE;
    try {
      const result = this.entries.next();
      if (!result.done) return result;
    } catch (error) {
      this.close();
      throw error;
    }
    this.close();
    return DONE;
  }

  return(): IteratorResult<KeyEntry, undefined> {
    this.close();
    return DONE;
  }

  [Symbol.iterator](): this {
    return this;
  }

  /** Ends the reading; may be called more than once. */
  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.entries.return?.();
    this.release(this);
  }

  /** Ends the reading, and gives its reader `failure` in place of the next entry. */
  fail(failure: Error): void {
    if (this.#ended) return;
    this.#failure = failure;
    this.close();
  }
}

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };
