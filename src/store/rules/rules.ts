/**
 * Numbers that the bytes of a store depend on. Made with the cluster, written into each manifest,
 * and the same on all members.
 */
export interface StoreRules {
  /** Version of the rules: 1. */
  readonly version: number;
  /** Charge at which an entry is a flush point, in bytes. Default 16 MiB. */
  readonly flushBytes: number;
  /** Runs of a level that are swept into the next one. Default 6. */
  readonly fanOut: number;
  /** Least runs of the oldest level that are swept into the base. Default 4. */
  readonly baseRuns: number;
  /** Input that the sweeps of one step read, in units of flushBytes. Default 8. */
  readonly sweepFlushes: number;
  /** Bytes of a page before the record that would exceed them. Default 4 KiB. */
  readonly pageBytes: number;
  /** A block ends at the first record behind this many bytes whose hash says so. Default 16 KiB. */
  readonly blockBytesMin: number;
  /** ... and at the latest here. Default 256 KiB. */
  readonly blockBytesMax: number;
  /** Zero bits of the hash that end a block. Default 8. */
  readonly blockBits: number;
  /** A table ends at a block's end behind this many bytes whose hash says so. Default 16 MiB. */
  readonly tableBytesMin: number;
  /** ... and at the latest here. Default 32 MiB. */
  readonly tableBytesMax: number;
  /** Further zero bits that end a table. Default 6. */
  readonly tableBits: number;
  /** Secret of the cluster from which cut and filter hashes start, two 32-bit numbers. */
  readonly seeds: readonly [cut: number, filter: number];
}
