import type { Database, Transaction } from "lmdb";
import { CairnError } from "../../base/errors.js";
import { CHECKSUM_BYTES, damagedState, keyChecksum, type RowKind, rowChecksum, type Tally } from "./checksums.js";

// Reads and writes checksummed rows of an LMDB table.

export type LmdbTable = Database<Buffer, Uint8Array>;

/**
 * Encoding of every table: a range lends its rows, since copying each one costs more than all the
 * rest.
 */
export const TABLE_ENCODING = {
  keyEncoding: "binary",
  encoder: { encode: (row: Buffer) => row, decode: (lent: Buffer, bytes: number) => lent.subarray(0, bytes) },
} as const;

export interface RowRange {
  readonly start?: Uint8Array;
  readonly end?: Uint8Array;
  readonly inclusiveEnd?: boolean;
  /** Absent: the transaction that writes. */
  readonly transaction?: Transaction;
}

interface BinaryReader {
  getBinary(key: Uint8Array, options?: { readonly transaction: Transaction }): Buffer | undefined;
}

/** Reads a verified row; `mark` is its checksum. Key and row are lent. */
export type RowReader<T> = (key: Buffer, row: Buffer, mark: number) => T;

/** Bytes of a number within a key. */
export const NUMBER_BYTES = 8;

/** Writes a number into a key, so that keys sort as their numbers do. */
export function putNumber(key: Buffer, number: number, at = 0): void {
  key.writeUInt32BE(Math.floor(number / 2 ** 32), at);
  key.writeUInt32BE(number % 2 ** 32, at + 4);
}

export function numberAt(key: Buffer, at = 0): number {
  return key.readUInt32BE(at) * 2 ** 32 + key.readUInt32BE(at + 4);
}

/** Returns the key that is a number alone. */
export function numberKey(number: number): Buffer {
  const key = Buffer.allocUnsafe(NUMBER_BYTES);
  putNumber(key, number);
  return key;
}

/**
 * A table whose rows carry a checksum, which every read verifies, and that keeps the tally of its
 * rows. Writes must be within a transaction of its environment. Rows and contents are lent: they
 * are valid until the next read of any table.
 */
export class SealedTable {
  /**
   * Key of the row that was read last, if nothing was written since: most rows are read before they
   * are overwritten.
   */
  #lastKey: Uint8Array | undefined;
  #lastMark: number | undefined;

  /** `translate` turns LMDB's errors into Cairn's. */
  constructor(
    private readonly table: LmdbTable,
    private readonly name: string,
    private readonly kind: RowKind,
    private readonly tally: Tally,
    private readonly translate: (error: unknown) => unknown,
  ) {}

  /**
   * Returns the row at `key`, its checksum verified, or undefined. The buffer is longer than the
   * row: `length` is the row's. Throws CairnError CORRUPT.
   */
  get(key: Uint8Array): Buffer | undefined {
    this.#lastKey = key;
    this.#lastMark = undefined;
    let row: Buffer | undefined;
    try {
      row = this.table.getBinaryFast(key);
    } catch (error) {
      throw this.failure(error);
    }
    if (row !== undefined) this.#lastMark = this.verify(key, row);
    return row;
  }

  /** Returns the row at `key` as {@link get} does, for the caller to keep. */
  getCopy(key: Uint8Array, transaction?: Transaction): Buffer | undefined {
    // The typings of getBinary lack the options, which it takes as `get` does.
    const table: BinaryReader = this.table;
    let row: Buffer | undefined;
    try {
      row = table.getBinary(key, transaction && { transaction });
    } catch (error) {
      throw this.failure(error);
    }
    if (row !== undefined) this.verify(key, row);
    return row;
  }

  /** Verifies a row; returns its checksum. Throws CairnError CORRUPT. */
  verify(key: Uint8Array, row: Buffer): number {
    const { length } = row;
    if (length < CHECKSUM_BYTES) throw this.damaged("a row is cut off");
    const expected = row.readUInt32LE(0);
    if (rowChecksum(this.kind, key, row, length) !== expected) throw this.damaged("a row fails its checksum");
    return expected;
  }

  /** Returns the mark that a row at `key` adds to the tally of answers. */
  keyMark(key: Uint8Array): number {
    return keyChecksum(this.kind, key);
  }

  /**
   * Yields what `read` makes of each row, in ascending order of key. Throws CairnError CORRUPT,
   * also for a row that `read` cannot make sense of.
   */
  *rows<T>(range: RowRange, read: RowReader<T>): Generator<T, void, undefined> {
    try {
      for (const { key, value: row } of this.table.getRange(range) as Iterable<{ key: Buffer; value: Buffer }>) {
        yield read(key, row, this.verify(key, row));
      }
    } catch (error) {
      throw this.failure(error);
    }
  }

  /**
   * Translates the error of a read into Cairn's error. A length that makes no sense fails in many
   * ways.
   */
  failure(error: unknown): CairnError {
    const translated = this.translate(error);
    if (translated instanceof CairnError) return translated;
    return this.damaged(`a row cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }

  /** Writes a row, and fills in its first {@link CHECKSUM_BYTES}. */
  put(key: Uint8Array, row: Buffer): void {
    const old = this.#markAt(key);
    if (old !== undefined) this.tally.remove(old);
    this.tally.add(this.#seal(key, row));
    this.table.putSync(key, row);
  }

  /**
   * Adds a row above all present ones, which is faster and packs the pages full. Returns false when
   * it is not above them.
   */
  append(key: Uint8Array, row: Buffer): boolean {
    this.tally.add(this.#seal(key, row));
    // The typings of putSync have no result for a put with options, but it is that of any put.
    const written: unknown = this.table.putSync(key, row, { append: true });
    return written === true;
  }

  /** Removes a row; returns whether it existed. */
  delete(key: Uint8Array): boolean {
    const old = this.#markAt(key);
    if (old === undefined) return false;
    this.tally.remove(old);
    if (!this.table.removeSync(key)) throw this.damaged("a row that was read cannot be removed");
    return true;
  }

  /**
   * Adds a new row, which is never overwritten; its mark is that of its key. Throws CairnError
   * CORRUPT when the row exists.
   */
  add(key: Uint8Array, row: Buffer): void {
    this.#seal(key, row);
    this.tally.add(this.keyMark(key));
    const written: unknown = this.table.putSync(key, row, { noOverwrite: true });
    if (written !== true) throw this.damaged("a row exists that was never written");
  }

  /**
   * Removes a row that {@link add} wrote, without reading it. Throws CairnError CORRUPT when it is
   * gone.
   */
  remove(key: Uint8Array): void {
    this.#lastKey = undefined;
    this.tally.remove(this.keyMark(key));
    if (!this.table.removeSync(key)) throw this.damaged("a row is missing");
  }

  clear(): void {
    this.#lastKey = undefined;
    this.tally.clear();
    this.table.clearSync();
  }

  /** Forgets the last row read: another writer may have changed the table. */
  forgetReads(): void {
    this.#lastKey = undefined;
  }

  damaged(what: string): CairnError {
    return damagedState(`in the table "${this.name}" ${what}`);
  }

  /** Returns the mark of the present row at `key`. */
  #markAt(key: Uint8Array): number | undefined {
    if (this.#lastKey !== key) this.get(key);
    this.#lastKey = undefined;
    return this.#lastMark;
  }

  #seal(key: Uint8Array, row: Buffer): number {
    this.#lastKey = undefined;
    const sum = rowChecksum(this.kind, key, row, row.byteLength);
    row.writeUInt32LE(sum, 0);
    return sum;
  }
}
