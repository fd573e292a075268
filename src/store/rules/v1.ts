import type { Combined, RecordKind } from "../record.js";
import { recordKind } from "../record.js";
import type { StoreRules } from "./rules.js";

// Version 1 of the rules that the bytes of records, blocks and tables follow.
//
// Pure, and of whole numbers only: all members must decide alike, on any machine and any Node. A
// change of an answer is a new version, in a file beside this one.

const { gone, known, inherits, deleted, only } = recordKind;

/** The rules of a new cluster, but for its secret seeds. */
export const DEFAULT_RULES: Omit<StoreRules, "seeds"> = {
  version: 1,
  flushBytes: 16 << 20,
  fanOut: 6,
  baseRuns: 4,
  sweepFlushes: 8,
  pageBytes: 4 << 10,
  blockBytesMin: 16 << 10,
  blockBytesMax: 256 << 10,
  blockBits: 8,
  tableBytesMin: 16 << 20,
  tableBytesMax: 32 << 20,
  tableBits: 6,
};

/** Bytes of a record beside its key and value: lengths, kind, tag, version, first version. */
export const RECORD_HEAD_BYTES = 24;

/** Returns the bytes that a record takes in a table: what a write adds to the charge. */
export function chargeOf(keyBytes: number, valueBytes: number): number {
  return RECORD_HEAD_BYTES + keyBytes + valueBytes;
}

/**
 * Returns a hash of 32 bits (HalfSipHash-1-3). Clients choose the keys: without the seed, which is
 * secret, they cannot aim for collisions or for blocks of one size.
 */
export function hash(bytes: Uint8Array, offset: number, length: number, seed: number): number {
  const key = Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995;
  let v0 = seed | 0;
  let v1 = key | 0;
  let v2 = 0x6c796765 ^ seed;
  let v3 = 0x74656462 ^ key;
  const last = length >>> 2;
  let at = offset;
  // One round for each word, one for the tail and the length, three to finish.
  for (let round = 0; round <= last + 3; round += 1) {
    let word = 0;
    if (round < last) {
      word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
      at += 4;
    } else if (round === last) {
      word = length << 24;
      const rest = length & 3;
      if (rest > 0) word |= bytes[at]!;
      if (rest > 1) word |= bytes[at + 1]! << 8;
      if (rest > 2) word |= bytes[at + 2]! << 16;
    } else if (round === last + 1) {
      v2 ^= 0xff;
    }
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return (v1 ^ v3) >>> 0;
}

/** Whether a block ends behind the record just added. `cutHash`: its key's, by the cut seed. */
export function isBlockEnd(rules: StoreRules, bytesInBlock: number, cutHash: number): boolean {
  if (bytesInBlock >= rules.blockBytesMax) return true;
  return bytesInBlock >= rules.blockBytesMin && hasZeroBits(cutHash, rules.blockBits);
}

/** Whether a table ends behind the block just ended. `cutHash`: that of the block's last key. */
export function isTableEnd(rules: StoreRules, bytesInTable: number, cutHash: number): boolean {
  if (bytesInTable >= rules.tableBytesMax) return true;
  return bytesInTable >= rules.tableBytesMin && hasZeroBits(cutHash, rules.blockBits + rules.tableBits);
}

function hasZeroBits(cutHash: number, bits: number): boolean {
  return (cutHash & ((1 << bits) - 1)) === 0;
}

/**
 * Returns the kind of what a newer and an older record of one key become. Associative over the
 * sequences that a store writes: `only` follows nothing, or a record that ended as `gone`.
 */
export function combinedKind(newer: RecordKind, older: RecordKind | undefined): RecordKind {
  if (older === undefined) return newer;
  // Below `only` and `gone` there is nothing, so that a removal leaves nothing to remember.
  if (older === only || older === gone) return newer === deleted || newer === gone ? gone : only;
  if (newer === inherits) return older === inherits ? inherits : known;
  // Not written by a store whose keys are made of indexes. A later removal must be remembered.
  if (newer === only) return known;
  return newer;
}

/** Returns the first version of what a newer and an older record of one key become. */
export function combinedFirst(newer: RecordKind, newerFirst: number, older: RecordKind, olderFirst: number): number {
  return newer === inherits && older !== deleted && older !== gone ? olderFirst : newerFirst;
}

/** Returns what a newer and an older record of one key become. `undefined`: there is none. */
export function combine(newer: Combined, older: Combined | undefined): Combined {
  if (older === undefined) return newer;
  return {
    kind: combinedKind(newer.kind, older.kind),
    first: combinedFirst(newer.kind, newer.first, older.kind, older.first),
  };
}

/** Returns the kind of a record below which there is none: `known`, or `gone` for no record. */
export function settle(kind: RecordKind): RecordKind {
  return kind === deleted || kind === gone ? gone : known;
}
