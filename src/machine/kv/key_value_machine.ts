import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import type { StateMachine } from "../state_machine.js";
import type { KeyRecord } from "./evaluate.js";

/** A key with its record. */
export interface KeyEntry extends KeyRecord {
  readonly key: Uint8Array;
}

export interface RangeOptions {
  /** Only keys that start with this; empty: all. */
  readonly prefix?: Uint8Array | undefined;
  /** Only keys above this; empty: all. */
  readonly after?: Uint8Array | undefined;
  /** At most so many keys, from 1; absent: all. */
  readonly limit?: number | undefined;
}

/**
 * Cairn's own state machine: keys with values and versions, and the sessions of clients. Entries
 * carry a cairn.v1.Command.
 */
export interface KeyValueMachine extends StateMachine<CommandResult> {
  /** The key in the present state. What it returns is the caller's to keep. */
  get(key: Uint8Array): KeyRecord | undefined;
  /**
   * Keys in ascending order of their bytes, all as they are at this call, however long the reading
   * takes.
   */
  range(options?: RangeOptions): KeyRange;
  readonly keyCount: number;
  readonly sessionCount: number;
}

/**
 * Keys being read. It holds on to the state as it was, so its owner must read it to its end, or
 * leave the `for...of` loop over it, or close it. Entries are the caller's to keep.
 */
export class KeyRange implements IterableIterator<KeyEntry> {
  #ended = false;
  #failure: Error | undefined;

  /** `release` lets go of what the entries come from; called once. */
  constructor(
    private readonly entries: Iterator<KeyEntry>,
    private readonly release: (range: KeyRange) => void,
  ) {}

  /**
   * Throws when the range was cut short by {@link fail}: a partial answer must not look like a
   * whole one.
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

  /** Ends the reading for its reader too, who gets `failure` at the next entry. */
  fail(failure: Error): void {
    if (this.#ended) return;
    this.#failure = failure;
    this.close();
  }
}

const DONE: IteratorReturnResult<undefined> = { done: true, value: undefined };
