import type { Existed, StoreEngine } from "../../store/reads.js";
import type { KeyEntry, KeyRecord, RecordStore } from "../kv/record_store.js";
import { keyspace, RowEncoder, recordOf, spaceStart, tagOf } from "./keyspaces.js";

/** The keys of a machine in its store. */
export class StoreRecords implements RecordStore {
  readonly #rows = new RowEncoder();
  /** Index of the entry that is being applied: deletes carry it. */
  #index = 0;
  /** Number of keys, about. */
  #count: number;
  #countAtMark = 0;
  #clearedAt = 0;

  /** `count`: number of keys in the store, about. */
  constructor(
    private readonly engine: StoreEngine,
    count: number,
  ) {
    this.#count = count;
  }

  /** Begins the changes of an entry. */
  begin(index: number): void {
    this.#index = index;
  }

  /** Number of keys, without those that unknown puts have made. */
  get count(): number {
    return Math.max(0, this.#count);
  }

  /** Counts the keys that these entries have made, which were not known when they were applied. */
  created(versions: Float64Array): void {
    for (const version of versions) if (version > this.#clearedAt) this.#count++;
  }

  get(key: Uint8Array): KeyRecord | undefined {
    const row = this.engine.get(this.#rows.key(key));
    return row === undefined ? undefined : recordOf(row);
  }

  put(key: Uint8Array, record: KeyRecord): void {
    const { version, createVersion, lease } = record;
    if (version === createVersion) this.#count++;
    this.engine.put(this.#rows.key(key), this.#rows.valueOf(record), version, createVersion, tagOf(lease));
  }

  putBlind(key: Uint8Array, value: Uint8Array, version: number): Existed {
    const existed = this.engine.putBlind(this.#rows.key(key), value, version, tagOf(undefined));
    if (existed === "no") this.#count++;
    return existed;
  }

  delete(key: Uint8Array): boolean {
    const row = this.#rows.key(key);
    if (this.engine.get(row) === undefined) return false;
    this.engine.delete(row, this.#index);
    this.#count--;
    return true;
  }

  *range(start: Uint8Array, end: Uint8Array | undefined): Generator<KeyEntry, void, undefined> {
    // Not from the shared buffer: the loop's body may use that.
    const from = Buffer.concat([spaceStart(keyspace.key), start]);
    const behind = end === undefined ? spaceStart(keyspace.key + 1) : Buffer.concat([spaceStart(keyspace.key), end]);
    for (const row of this.engine.range(from, behind)) {
      yield { ...recordOf(row), key: Uint8Array.prototype.slice.call(row.key, 1) };
    }
  }

  clear(): void {
    this.engine.raiseFloor(keyspace.key, this.#index);
    this.#count = 0;
    this.#clearedAt = this.#index;
  }

  mark(): number {
    this.#countAtMark = this.#count;
    return this.engine.mark();
  }

  rollback(mark: number): void {
    this.engine.rollback(mark);
    this.#count = this.#countAtMark;
  }
}
