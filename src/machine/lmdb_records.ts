import type { Transaction } from "lmdb";
import { limits } from "../core/limits.js";
import type { KeyRecord, RecordStore } from "./evaluate.js";
import type { KeyEntry } from "./key_value_machine.js";
import type { LmdbTable } from "./lmdb_environment.js";

/** A key's row: create version and version as little-endian doubles, then the value. */
const HEADER_BYTES = 16;

/** How the table of keys is opened: rows read in a range are lent, since copying each costs more than all the rest. */
export const RECORDS_ENCODING = {
  keyEncoding: "binary",
  encoder: { encode: (row: Buffer) => row, decode: (lent: Buffer, bytes: number) => lent.subarray(0, bytes) },
} as const;

/** The table of keys, opened with {@link RECORDS_ENCODING}. What writes must be within a transaction of its environment. */
export class LmdbRecords implements RecordStore {
  /** Rows on their way in: LMDB copies them at once, so one buffer serves all. */
  #row = Buffer.allocUnsafeSlow(64 * limits.keyBytes);

  constructor(private readonly table: LmdbTable) {}

  get count(): number {
    return (this.table.getStats() as { entryCount: number }).entryCount;
  }

  /** The record's value is good until the next read of any table. */
  get(key: Uint8Array): KeyRecord | undefined {
    const row = this.table.getBinaryFast(key);
    return row === undefined ? undefined : recordOf(row);
  }

  /** The record, with a value to keep. */
  getCopy(key: Uint8Array): KeyRecord | undefined {
    const row = this.table.getBinary(key);
    return row === undefined ? undefined : recordOf(row);
  }

  put(key: Uint8Array, record: KeyRecord): void {
    this.table.putSync(key, this.#rowOf(record));
  }

  /** Adds a key above all that are there, which is faster and packs the pages full. Returns false when it is not above. */
  append(key: Uint8Array, record: KeyRecord): boolean {
    // Its typings know no result of a put with options, but it is that of any put.
    const written: unknown = this.table.putSync(key, this.#rowOf(record), { append: true });
    return written === true;
  }

  delete(key: Uint8Array): boolean {
    return this.table.removeSync(key);
  }

  clear(): void {
    this.table.clearSync();
  }

  /**
   * The keys that start with `prefix` and are above `after` (empty: all), as the transaction sees them. Values are good until the next
   * read of any table.
   */
  *entries(
    transaction: Transaction,
    prefix: Uint8Array,
    after: Uint8Array = NO_BYTES,
  ): Generator<KeyEntry, undefined, undefined> {
    const start = startOf(prefix, after);
    for (const { key, value: row } of this.table.getRange(start ? { start, transaction } : { transaction })) {
      if (prefix.byteLength > 0 && Buffer.compare(key.subarray(0, prefix.byteLength), prefix) !== 0) return;
      yield {
        key,
        createVersion: row.readDoubleLE(0),
        version: row.readDoubleLE(8),
        value: row.subarray(HEADER_BYTES),
      };
    }
  }

  #rowOf({ createVersion, version, value }: KeyRecord): Buffer {
    const bytes = HEADER_BYTES + value.byteLength;
    if (bytes > this.#row.byteLength) this.#row = Buffer.allocUnsafeSlow(Math.max(bytes, this.#row.byteLength * 2));
    this.#row.writeDoubleLE(createVersion, 0);
    this.#row.writeDoubleLE(version, 8);
    this.#row.set(value, HEADER_BYTES);
    return this.#row.subarray(0, bytes);
  }
}

const NO_BYTES = new Uint8Array(0);

/** Where such a range starts; undefined: at the first key. No key is between `after` and the same with a zero byte behind it. */
function startOf(prefix: Uint8Array, after: Uint8Array): Uint8Array | undefined {
  if (after.byteLength > 0 && Buffer.compare(after, prefix) >= 0) return Buffer.concat([after, Buffer.alloc(1)]);
  return prefix.byteLength > 0 ? prefix : undefined;
}

function recordOf(row: Buffer): KeyRecord {
  return {
    createVersion: row.readDoubleLE(0),
    version: row.readDoubleLE(8),
    // The buffer that lmdb lends is longer than the row; its `length` is the row's.
    value: row.subarray(HEADER_BYTES, row.length),
  };
}
