// The leases of the store, as the commands need them.

/** A lease in the state. The state has no clock: the leader measures its time. */
export interface StoredLease {
  /** Index of the entry that granted it. */
  readonly id: number;
  /** Time in milliseconds that it lives after its grant or its newest keep-alive. */
  readonly ttlMs: number;
  /** Number of its keep-alives. */
  readonly keepAlives: number;
  /** Number of keys that are attached to it. */
  readonly keys: number;
}

/**
 * Stores the leases, and an index of their keys. {@link moveKey} and {@link endLease} keep the two
 * and the keys' own records consistent.
 */
export interface LeaseStore {
  /** Number of leases. */
  readonly count: number;
  get(id: number): StoredLease | undefined;
  /** Adds a lease, or overwrites it. */
  put(lease: StoredLease): void;
  /** Removes a lease, which must exist. */
  delete(id: number): void;
  /** Adds a key to the index. The key's bytes are lent for the call. */
  addKey(id: number, key: Uint8Array): void;
  /** Removes a key from the index, which must hold it. The key's bytes are lent for the call. */
  removeKey(id: number, key: Uint8Array): void;
  /** Returns the keys of a lease, in ascending order of their bytes, for the caller to keep. */
  keysOf(id: number): Uint8Array[];
  /** Removes all leases. */
  clear(): void;
}
