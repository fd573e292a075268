import { crc32 } from "node:zlib";
import { CairnError } from "../../base/errors.js";

// Computes the checksums of rows and the digest of a state.
//
// Each row of the state's tables starts with a CRC32 over its kind, the length of its key, its key
// and the rest of the row. So a read notices a flipped bit, and a good row at another key or in
// another table.
//
// A missing row has no checksum. Therefore the state keeps a digest of all rows beside its applied
// position, in the same transaction: for each table, the number of rows and the sum of their marks,
// in no order. A walk through all rows makes a digest to compare with it.

/** Bytes of the checksum in front of each row. */
export const CHECKSUM_BYTES = 4;

/** Kinds of rows. The numbers are on disk. */
export const rowKind = { meta: 1, key: 2, session: 3, answer: 4, effects: 5, lease: 6, leaseKey: 7 } as const;

export type RowKind = (typeof rowKind)[keyof typeof rowKind];

/** Returns the error of a state that differs from the one that was written (T7). */
export function damagedState(what: string): CairnError {
  return new CairnError(
    "CORRUPT",
    `the state on disk is damaged: ${what}; the node's next start rebuilds it from snapshot and log`,
  );
}

/** Computes the checksum of a row's kind and key; that of its contents continues from it. */
export function keyChecksum(kind: RowKind, key: Uint8Array): number {
  return keyChecksumIn(kind, key, 0, key.byteLength);
}

/** The same for a key that is a part of `bytes`. */
export function keyChecksumIn(kind: RowKind, bytes: Uint8Array, from: number, to: number): number {
  return checksum(bytes, from, to, (kind << 16) | (to - from));
}

/** Computes the checksum in front of a row, which is in the first `bytes` of the buffer. */
export function rowChecksum(kind: RowKind, key: Uint8Array, row: Uint8Array, bytes: number): number {
  return contentChecksum(keyChecksum(kind, key), row, 0, bytes);
}

/**
 * Continues the checksum of a row's kind and key over the row, which is a part of `bytes`: over all
 * of it but the checksum in front of it.
 */
export function contentChecksum(ofKey: number, bytes: Uint8Array, from: number, to: number): number {
  return checksum(bytes, from + CHECKSUM_BYTES, to, ofKey);
}

/**
 * Continues a checksum over a part of `bytes`. Equal to crc32, which is slow to call for few bytes.
 */
function checksum(bytes: Uint8Array, from: number, to: number, before: number): number {
  // Not `subarray`, which takes twice as long.
  if (to - from > SHORT_BYTES) return crc32(new Uint8Array(bytes.buffer, bytes.byteOffset + from, to - from), before);
  let crc = ~before;
  for (let at = from; at < to; at++) crc = TABLE[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

const SHORT_BYTES = 40;

/** Entry for each byte, for the polynomial of zlib's CRC32. */
const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** Counts the rows of one table, and sums their marks modulo 2^32, in any order. */
export class Tally {
  constructor(
    public count = 0,
    public sum = 0,
  ) {}

  add(mark: number): void {
    this.count++;
    this.sum = (this.sum + mark) >>> 0;
  }

  remove(mark: number): void {
    this.count--;
    this.sum = (this.sum - mark) >>> 0;
  }

  clear(): void {
    this.count = 0;
    this.sum = 0;
  }

  set({ count, sum }: Tally): void {
    this.count = count;
    this.sum = sum;
  }

  equals({ count, sum }: Tally): boolean {
    return this.count === count && this.sum === sum;
  }
}

/** The tables with a tally, in the order in which a digest on disk has them. */
const TALLIED = ["keys", "sessions", "answers", "leases", "leaseKeys", "effects"] as const;

const NAMES: Readonly<Record<(typeof TALLIED)[number], string>> = {
  keys: "keys",
  sessions: "sessions",
  answers: "answers",
  leases: "leases",
  leaseKeys: "keys of leases",
  effects: "effects",
};

/** Tallies of all tables of a state. */
export class StateDigest {
  /** The mark of a row is its checksum. */
  readonly keys = new Tally();
  /** The mark of a row is its checksum. */
  readonly sessions = new Tally();
  /**
   * The mark of a row is the checksum of its key alone: an answer is never overwritten, so it can
   * be removed without being read.
   */
  readonly answers = new Tally();
  /** The mark of a row is its checksum. */
  readonly leases = new Tally();
  /** The mark of a row is the checksum of its key, which is all that it holds. */
  readonly leaseKeys = new Tally();
  /** The mark of a row is the checksum of its key alone, as for answers. */
  readonly effects = new Tally();

  set(other: StateDigest): void {
    for (const table of TALLIED) this[table].set(other[table]);
  }

  copy(): StateDigest {
    const copy = new StateDigest();
    copy.set(this);
    return copy;
  }

  /** Describes how another digest differs from this one; undefined when it does not. */
  difference(found: StateDigest): string | undefined {
    for (const table of TALLIED) {
      const [expected, walked] = [this[table], found[table]];
      if (expected.equals(walked)) continue;
      return expected.count === walked.count
        ? `its ${NAMES[table]} are not those that were written`
        : `it has ${walked.count} ${NAMES[table]}, and should have ${expected.count}`;
    }
    return undefined;
  }

  /**
   * Writes the digest.
   * @param at position of its {@link DIGEST_BYTES}
   */
  write(row: Buffer, at: number): void {
    for (const table of TALLIED) {
      const { count, sum } = this[table];
      row.writeDoubleLE(count, at);
      row.writeUInt32LE(sum, at + 8);
      at += TALLY_BYTES;
    }
  }

  static read(row: Buffer, at: number): StateDigest {
    const digest = new StateDigest();
    for (const table of TALLIED) {
      digest[table].set(new Tally(row.readDoubleLE(at), row.readUInt32LE(at + 8)));
      at += TALLY_BYTES;
    }
    return digest;
  }
}

const TALLY_BYTES = 12;

/** Bytes of a digest on disk. */
export const DIGEST_BYTES = TALLIED.length * TALLY_BYTES;
