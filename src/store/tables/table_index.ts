import { createHash } from "node:crypto";
import { compareSpans } from "../bytes.js";
import { commonPrefix } from "./directory.js";
import {
  damagedTable,
  readU16,
  readU32,
  readU64,
  TABLE_DIGEST_BYTES,
  TABLE_FORMAT,
  TABLE_HEADER_BYTES,
  type TableInfo,
  writeU32,
  writeU64,
} from "./format.js";

// The index of a table: size and digest of each block, keys that separate them, and what the whole
// table is. Its own SHA-256 is the table's id.
//
//   u32 format, u32 seed of the filter, u32 bytes of the filter (0: none), u32 blocks
//   u64 records, u64 deletes, SHA-256 of the filter, u16 bytes of the first key, u16 of the last
//   for each block: u32 bytes of its pages, u32 bytes and u32 CRC-32 of its directory, SHA-256 of
//     pages and directory, u32 end of its separator
//   separators, first key, last key

const HEAD_BYTES = 68;
const ENTRY_BYTES = 16 + TABLE_DIGEST_BYTES;

/** A block as the index lists it. */
export interface BlockEntry {
  readonly pageBytes: number;
  readonly directoryBytes: number;
  readonly directoryChecksum: number;
  readonly digest: Uint8Array;
  /** Empty for the first block; else above all keys before the block, and not above its first. */
  readonly separator: Uint8Array;
}

/** Describes a table, but for its name, size and id, which follow from the file. */
export interface TableSummary {
  readonly records: number;
  readonly deletes: number;
  readonly first: Uint8Array;
  readonly last: Uint8Array;
}

export function encodeIndex(
  blocks: readonly BlockEntry[],
  filter: Uint8Array | undefined,
  filterSeed: number,
  { records, deletes, first, last }: TableSummary,
): Uint8Array {
  const separators = blocks.reduce((sum, { separator }) => sum + separator.byteLength, 0);
  let keyAt = HEAD_BYTES + blocks.length * ENTRY_BYTES;
  const index = new Uint8Array(keyAt + separators + first.byteLength + last.byteLength);
  writeU32(index, 0, TABLE_FORMAT);
  writeU32(index, 4, filterSeed);
  writeU32(index, 8, filter?.byteLength ?? 0);
  writeU32(index, 12, blocks.length);
  writeU64(index, 16, records);
  writeU64(index, 24, deletes);
  if (filter !== undefined) index.set(sha256(filter), 32);
  writeU32(index, 64, first.byteLength | (last.byteLength << 16));
  let separatorEnd = 0;
  for (const [i, block] of blocks.entries()) {
    const at = HEAD_BYTES + i * ENTRY_BYTES;
    index.set(block.separator, keyAt + separatorEnd);
    separatorEnd += block.separator.byteLength;
    writeU32(index, at, block.pageBytes);
    writeU32(index, at + 4, block.directoryBytes);
    writeU32(index, at + 8, block.directoryChecksum);
    index.set(block.digest, at + 12);
    writeU32(index, at + 12 + TABLE_DIGEST_BYTES, separatorEnd);
  }
  keyAt += separatorEnd;
  index.set(first, keyAt);
  index.set(last, keyAt + first.byteLength);
  return index;
}

/** Returns the SHA-256 of bytes. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

/** The index of a table in memory. */
export class TableIndex {
  readonly blocks: number;
  readonly filterBytes: number;
  readonly filterSeed: number;
  readonly filterDigest: Uint8Array;
  /** Places of the blocks in the file, and of the end of the last one. */
  readonly #starts: Float64Array;
  /** Start of the separators in the index, and the end of each, relative to it. */
  readonly #separatorsAt: number;
  readonly #separatorEnds: Uint32Array;
  /** Bytes that all separators but the first, which is empty, begin with. */
  readonly #prefixBytes: number;

  private constructor(private readonly bytes: Uint8Array) {
    this.blocks = readU32(bytes, 12);
    this.filterSeed = readU32(bytes, 4);
    this.filterBytes = readU32(bytes, 8);
    this.filterDigest = bytes.subarray(32, 32 + TABLE_DIGEST_BYTES);
    this.#separatorsAt = HEAD_BYTES + this.blocks * ENTRY_BYTES;
    this.#starts = new Float64Array(this.blocks + 1);
    this.#separatorEnds = new Uint32Array(this.blocks);
    let at = TABLE_HEADER_BYTES;
    for (let block = 0; block < this.blocks; block++) {
      this.#starts[block] = at;
      this.#separatorEnds[block] = readU32(bytes, HEAD_BYTES + block * ENTRY_BYTES + 12 + TABLE_DIGEST_BYTES);
      at += this.pageBytes(block) + this.directoryBytes(block);
    }
    this.#starts[this.blocks] = at;
    this.#prefixBytes = this.blocks < 2 ? 0 : commonPrefix(this.#separator(1), this.#separator(this.blocks - 1));
  }

  /**
   * Takes the bytes of an index over. @throws CairnError CORRUPT when they are not those of this
   * table
   */
  static decode(bytes: Uint8Array, position: number, path: string, info: TableInfo): TableIndex {
    if (Buffer.compare(sha256(bytes), info.id) !== 0) {
      throw damagedTable(path, position, "its index is not the one that the manifest names");
    }
    // A writer has made all that follows: only its version may be another one.
    if (readU32(bytes, 0) !== TABLE_FORMAT) throw damagedTable(path, position, "its format is unknown");
    const index = new TableIndex(bytes);
    const { first, last, records, deletes } = index.summary();
    const isSame =
      records === info.records &&
      deletes === info.deletes &&
      Buffer.compare(first, info.first) === 0 &&
      Buffer.compare(last, info.last) === 0;
    if (!isSame) throw damagedTable(path, position, "its keys are not those that the manifest names");
    if (index.start(index.blocks) + index.filterBytes !== position) {
      throw damagedTable(path, position, "its blocks do not end before its index");
    }
    return index;
  }

  summary(): TableSummary {
    const { bytes } = this;
    const last = bytes.byteLength - readU16(bytes, 66);
    const first = last - readU16(bytes, 64);
    return {
      records: readU64(bytes, 16),
      deletes: readU64(bytes, 24),
      first: bytes.subarray(first, last),
      last: bytes.subarray(last),
    };
  }

  /** Returns where a block begins in the file; of the number of blocks: where the last one ends. */
  start(block: number): number {
    return this.#starts[block]!;
  }

  pageBytes(block: number): number {
    return readU32(this.bytes, HEAD_BYTES + block * ENTRY_BYTES);
  }

  directoryBytes(block: number): number {
    return readU32(this.bytes, HEAD_BYTES + block * ENTRY_BYTES + 4);
  }

  directoryChecksum(block: number): number {
    return readU32(this.bytes, HEAD_BYTES + block * ENTRY_BYTES + 8);
  }

  digest(block: number): Uint8Array {
    const at = HEAD_BYTES + block * ENTRY_BYTES + 12;
    return this.bytes.subarray(at, at + TABLE_DIGEST_BYTES);
  }

  /** Returns the only block that may hold a key. */
  blockFor(key: Uint8Array): number {
    const { bytes } = this;
    const ends = this.#separatorEnds;
    const prefix = this.#prefixBytes;
    let low = 0;
    let high = this.blocks - 1;
    if (high === 0) return 0;
    const keyBytes = key.byteLength < prefix ? key.byteLength : prefix;
    const order = compareSpans(key, 0, keyBytes, bytes, this.#separatorsAt, prefix);
    if (order !== 0) return order < 0 ? 0 : high;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const start = ends[middle - 1]!;
      const length = ends[middle]! - start;
      const at = this.#separatorsAt + start + prefix;
      if (compareSpans(bytes, at, length - prefix, key, prefix, key.byteLength - prefix) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #separator(block: number): Uint8Array {
    const start = block === 0 ? 0 : this.#separatorEnds[block - 1]!;
    return this.bytes.subarray(this.#separatorsAt + start, this.#separatorsAt + this.#separatorEnds[block]!);
  }
}
