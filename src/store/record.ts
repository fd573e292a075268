// Records of the store, and how a newer and an older record of one key become one.

/**
 * Kinds of records. The numbers are on disk.
 *
 *   gone      nothing: a key that was made and removed within one table
 *   known     the value, and the index at which the key was created
 *   inherits  the value, written without looking: the key keeps the creation of the older record,
 *             if there is one, and was otherwise created by the first write of this chain
 *   deleted   the key is removed; older tables may still hold it
 *   only      as `known`, and no older table holds the key
 */
export const recordKind = { gone: 0, known: 1, inherits: 2, deleted: 3, only: 4 } as const;

export type RecordKind = (typeof recordKind)[keyof typeof recordKind];

/** A record. Its bytes are lent: they are valid until the next call of the store. */
export interface StoreRecord {
  readonly key: Uint8Array;
  readonly kind: RecordKind;
  /** Meaning known to the state machine alone, 0 to 255. */
  readonly tag: number;
  /** Index of the entry that wrote the record. */
  readonly version: number;
  /**
   * known, only: index of the entry that created the key. inherits: index of the first write of the
   * chain. deleted, gone: 0.
   */
  readonly first: number;
  /** Empty for a record that is deleted or gone. */
  readonly value: Uint8Array;
}

/** Kind and first version of what a newer and an older record of one key become. */
export interface Combined {
  readonly kind: RecordKind;
  readonly first: number;
}
