import type { Existed } from "../../store/reads.js";

// The keys of the store, as the commands need them.

/** Record of a key in the state. */
export interface KeyRecord {
  /**
   * Index of the entry that created the key. Overwriting keeps it; creating the key again after a
   * delete sets a new one.
   */
  readonly createVersion: number;
  /** Index of the entry that wrote the value. */
  readonly version: number;
  readonly value: Uint8Array;
  /** The lease that the key is attached to; absent when it is attached to none. */
  readonly lease?: number;
}

/** Returns a record that the caller may keep. */
export function copyOf<Lent extends KeyRecord>(lent: Lent): Lent {
  return { ...lent, value: Uint8Array.prototype.slice.call(lent.value) };
}

/** A key with its record. */
export interface KeyEntry extends KeyRecord {
  readonly key: Uint8Array;
}

/**
 * Stores the keys, as far as commands need them. Bytes are lent in both directions: they are valid
 * until the next call.
 */
export interface RecordStore {
  get(key: Uint8Array): KeyRecord | undefined;
  put(key: Uint8Array, record: KeyRecord): void;
  /** Removes a key; returns whether it existed. */
  delete(key: Uint8Array): boolean;
  /**
   * Yields the keys from `start` on, and below `end` if there is one, in ascending order of their
   * bytes. They include every change that was made before. The caller may keep the keys, not the
   * values, and must not change the store before it has ended the loop.
   */
  range(start: Uint8Array, end: Uint8Array | undefined): Iterable<KeyEntry>;
  /** Removes all keys. */
  clear(): void;
  /**
   * Writes a key without a lease, without looking at it, and returns whether it existed, as far as
   * the store can tell: this differs from node to node. The key keeps its create version, if it has
   * one. Absent on a store that looks at each key.
   */
  putBlind?(key: Uint8Array, value: Uint8Array, version: number): Existed;
  /** Returns a place for {@link rollback}. Absent on a store that cannot go back. */
  mark?(): number;
  /** Takes back what was written since the mark. */
  rollback?(mark: number): void;
}
