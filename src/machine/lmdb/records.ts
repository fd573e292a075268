import type { Transaction } from "lmdb";
import { limits } from "../../base/limits.js";
import type { KeyEntry, KeyRecord, RecordStore } from "../kv/record_store.js";
import { CHECKSUM_BYTES, type Tally } from "./checksums.js";
import type { SealedTable } from "./table.js";

// A key's row: checksum, create version and version as little-endian doubles, then the value. In
// the row of a key with a lease the create version is negative, and the lease, a double, stands
// before the value: a key without a lease has no byte for it.

const CREATE_VERSION_AT = CHECKSUM_BYTES;
const VERSION_AT = CREATE_VERSION_AT + 8;
const VALUE_AT = VERSION_AT + 8;
const LEASE_AT = VALUE_AT;
const LEASED_VALUE_AT = LEASE_AT + 8;

/** The table of keys. Writes must be within a transaction of its environment. */
export class LmdbRecords implements RecordStore {
  /** Buffer for rows to write: LMDB copies them at once, so one buffer serves all. */
  #row = Buffer.allocUnsafeSlow(64 * limits.keyBytes);

  constructor(
    private readonly table: SealedTable,
    private readonly tally: Tally,
  ) {}

  get count(): number {
    return this.tally.count;
  }

  /** Returns a record, whose value is valid until the next read of any table. */
  get(key: Uint8Array): KeyRecord | undefined {
    const row = this.table.get(key);
    return row === undefined ? undefined : this.#recordOf(row);
  }

  /** Returns a record with a value that the caller may keep. */
  getCopy(key: Uint8Array): KeyRecord | undefined {
    const row = this.table.getCopy(key);
    return row === undefined ? undefined : this.#recordOf(row);
  }

  put(key: Uint8Array, record: KeyRecord): void {
    this.table.put(key, this.#rowOf(record));
  }

  /**
   * Adds a key above all present ones, which is faster and packs the pages full. Returns false when
   * it is not above them.
   */
  append(key: Uint8Array, record: KeyRecord): boolean {
    return this.table.append(key, this.#rowOf(record));
  }

  delete(key: Uint8Array): boolean {
    return this.table.delete(key);
  }

  clear(): void {
    this.table.clear();
  }

  /** Implements RecordStore, as the transaction that writes sees the keys. */
  range(start: Uint8Array, end: Uint8Array | undefined): Generator<KeyEntry, void, undefined> {
    const from = start.byteLength > 0 ? { start } : {};
    return this.table.rows(end === undefined ? from : { ...from, end }, (key, row) => ({
      key,
      ...this.#recordOf(row),
    }));
  }

  /**
   * Yields the keys that start with `prefix` and are above `after` (empty: all), as the transaction
   * sees them. Values are valid until the next read of any table. `walked` counts each row.
   */
  *entries(
    transaction: Transaction,
    prefix: Uint8Array,
    after: Uint8Array = NO_BYTES,
    walked?: Tally,
  ): Generator<KeyEntry, undefined, undefined> {
    const start = startOf(prefix, after);
    const entries = this.table.rows(start ? { start, transaction } : { transaction }, (key, row, mark) => {
      if (prefix.byteLength > 0 && Buffer.compare(key.subarray(0, prefix.byteLength), prefix) !== 0) return undefined;
      walked?.add(mark);
      return { key, ...this.#recordOf(row) };
    });
    for (const entry of entries) {
      if (entry === undefined) return;
      yield entry;
    }
  }

  #rowOf({ createVersion, version, value, lease }: KeyRecord): Buffer {
    const valueAt = lease === undefined ? VALUE_AT : LEASED_VALUE_AT;
    const bytes = valueAt + value.byteLength;
    if (bytes > this.#row.byteLength) this.#row = Buffer.allocUnsafeSlow(Math.max(bytes, this.#row.byteLength * 2));
    this.#row.writeDoubleLE(lease === undefined ? createVersion : -createVersion, CREATE_VERSION_AT);
    this.#row.writeDoubleLE(version, VERSION_AT);
    if (lease !== undefined) this.#row.writeDoubleLE(lease, LEASE_AT);
    this.#row.set(value, valueAt);
    return this.#row.subarray(0, bytes);
  }

  #recordOf(row: Buffer): KeyRecord {
    if (row.length < VALUE_AT) throw this.table.damaged("a row is cut off");
    const createVersion = row.readDoubleLE(CREATE_VERSION_AT);
    const version = row.readDoubleLE(VERSION_AT);
    if (createVersion > 0) return { createVersion, version, value: row.subarray(VALUE_AT, row.length) };
    if (row.length < LEASED_VALUE_AT) throw this.table.damaged("a row is cut off");
    const value = row.subarray(LEASED_VALUE_AT, row.length);
    return { createVersion: -createVersion, version, value, lease: row.readDoubleLE(LEASE_AT) };
  }
}

const NO_BYTES = new Uint8Array(0);

/**
 * Returns the key at which such a range starts; undefined for the first key. No key lies between
 * `after` and `after` with a zero byte behind it.
 */
function startOf(prefix: Uint8Array, after: Uint8Array): Uint8Array | undefined {
  if (after.byteLength > 0 && Buffer.compare(after, prefix) >= 0) return Buffer.concat([after, Buffer.alloc(1)]);
  return prefix.byteLength > 0 ? prefix : undefined;
}
