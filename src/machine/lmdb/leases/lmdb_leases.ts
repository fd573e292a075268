import type { Transaction } from "lmdb";
import type { LeaseStore, StoredLease } from "../../kv/leases/lease_store.js";
import { CHECKSUM_BYTES, type Tally } from "../checksums.js";
import { NUMBER_BYTES, numberAt, numberKey, type RowRange, type SealedTable } from "../table.js";

// Stores leases, and the index of their keys, each row behind its checksum.
//
//   leases:     id (8, big-endian)       -> time to live (double), keep-alives (double), number of
//                                           keys (4); little-endian
//   lease-keys: id (8, big-endian), key  -> nothing

const TTL_AT = CHECKSUM_BYTES;
const KEEP_ALIVES_AT = TTL_AT + 8;
const KEYS_AT = KEEP_ALIVES_AT + 8;
const ROW_BYTES = KEYS_AT + 4;

/** The tables of leases. Writes must be within a transaction of their environment. */
export class LmdbLeases implements LeaseStore {
  /** The id that was used last, and its key. */
  #last: { readonly id: number; readonly key: Buffer } | undefined;

  constructor(
    private readonly table: SealedTable,
    private readonly index: SealedTable,
    private readonly tally: Tally,
  ) {}

  get count(): number {
    return this.tally.count;
  }

  get(id: number): StoredLease | undefined {
    const row = this.table.get(this.#keyOf(id));
    return row === undefined ? undefined : this.#leaseOf(id, row);
  }

  put(lease: StoredLease): void {
    this.table.put(this.#keyOf(lease.id), rowOf(lease));
  }

  /**
   * Adds a lease above all present ones, as a payload has them. Returns false when it is not above
   * them.
   */
  append(lease: StoredLease): boolean {
    return this.table.append(numberKey(lease.id), rowOf(lease));
  }

  delete(id: number): void {
    if (!this.table.delete(this.#keyOf(id))) throw this.table.damaged("a row is missing");
  }

  addKey(id: number, key: Uint8Array): void {
    this.index.add(indexKeyOf(id, key), Buffer.alloc(CHECKSUM_BYTES));
  }

  removeKey(id: number, key: Uint8Array): void {
    this.index.remove(indexKeyOf(id, key));
  }

  keysOf(id: number): Uint8Array[] {
    const range = { start: numberKey(id), end: numberKey(id + 1) };
    return [...this.index.rows(range, (key) => Uint8Array.prototype.slice.call(key, NUMBER_BYTES))];
  }

  clear(): void {
    this.table.clear();
    this.index.clear();
  }

  /** Returns up to `limit` leases above `after`, in ascending order of id. */
  list(after: number, limit: number): StoredLease[] {
    const found: StoredLease[] = [];
    if (limit <= 0 || this.count === 0) return found;
    for (const lease of this.#range({ start: numberKey(after + 1) })) {
      found.push(lease);
      if (found.length >= limit) break;
    }
    return found;
  }

  /**
   * Yields all leases, as the transaction sees them, in ascending order. `walked` counts each row.
   */
  entries(transaction: Transaction, walked: Tally): Generator<StoredLease, void, undefined> {
    return this.#range({ transaction }, walked);
  }

  /** Counts the row of the index that a key with a lease must have. */
  countKey(id: number, key: Uint8Array, walked: Tally): void {
    walked.add(this.index.keyMark(indexKeyOf(id, key)));
  }

  /** Returns the same buffer for the same id: the table then reads a row once to overwrite it. */
  #keyOf(id: number): Buffer {
    if (this.#last?.id !== id) this.#last = { id, key: numberKey(id) };
    return this.#last.key;
  }

  #range(range: RowRange, walked?: Tally): Generator<StoredLease, void, undefined> {
    return this.table.rows(range, (key, row, mark) => {
      walked?.add(mark);
      return this.#leaseOf(numberAt(key), row);
    });
  }

  #leaseOf(id: number, row: Buffer): StoredLease {
    if (row.length !== ROW_BYTES) throw this.table.damaged("a row has the wrong size");
    return {
      id,
      ttlMs: row.readDoubleLE(TTL_AT),
      keepAlives: row.readDoubleLE(KEEP_ALIVES_AT),
      keys: row.readUInt32LE(KEYS_AT),
    };
  }
}

function indexKeyOf(id: number, key: Uint8Array): Buffer {
  return Buffer.concat([numberKey(id), key]);
}

function rowOf({ ttlMs, keepAlives, keys }: StoredLease): Buffer {
  const row = Buffer.allocUnsafe(ROW_BYTES);
  row.writeDoubleLE(ttlMs, TTL_AT);
  row.writeDoubleLE(keepAlives, KEEP_ALIVES_AT);
  row.writeUInt32LE(keys, KEYS_AT);
  return row;
}
