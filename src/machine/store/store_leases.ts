import type { StoreEngine } from "../../store/reads.js";
import type { LeaseStore, StoredLease } from "../kv/leases/lease_store.js";
import { MemoryLeases } from "../kv/leases/memory_leases.js";
import { keyspace, leaseKeyOf, leaseOf, RowEncoder, spaceStart, WAITING_ROW_BYTES } from "./keyspaces.js";

/**
 * The leases of a machine, in memory. The rows of their keys follow each change; their own rows are
 * written at the flush point, since each write of a key with a lease changes one.
 */
export class StoreLeases implements LeaseStore {
  readonly #leases = new MemoryLeases();
  /** Leases that have changed since the last flush point. */
  readonly #changed = new Set<number>();
  /** Leases that have a row in the store. */
  readonly #stored = new Set<number>();
  readonly #rows = new RowEncoder();
  #index = 0;

  /** Reads the leases that the store holds. */
  constructor(private readonly engine: StoreEngine) {
    for (const row of engine.range(spaceStart(keyspace.lease), spaceStart(keyspace.leaseKey))) {
      const lease = leaseOf(row);
      this.#leases.put(lease);
      this.#stored.add(lease.id);
    }
    for (const row of engine.range(spaceStart(keyspace.leaseKey), spaceStart(keyspace.key))) {
      const { id, key } = leaseKeyOf(row);
      this.#leases.addKey(id, key);
    }
  }

  /** Begins the changes of an entry. */
  begin(index: number): void {
    this.#index = index;
  }

  get count(): number {
    return this.#leases.count;
  }

  /** Bytes that the rows to be written at the flush point count for. */
  get waitingBytes(): number {
    return this.#changed.size * WAITING_ROW_BYTES;
  }

  get(id: number): StoredLease | undefined {
    return this.#leases.get(id);
  }

  put(lease: StoredLease): void {
    this.#leases.put(lease);
    this.#changed.add(lease.id);
  }

  delete(id: number): void {
    this.#leases.delete(id);
    this.#changed.delete(id);
    if (this.#stored.delete(id)) this.engine.delete(this.#rows.lease(id), this.#index);
  }

  addKey(id: number, key: Uint8Array): void {
    this.#leases.addKey(id, key);
    this.engine.put(this.#rows.leaseKey(id, key), NO_BYTES, this.#index, this.#index, 0);
  }

  removeKey(id: number, key: Uint8Array): void {
    this.#leases.removeKey(id, key);
    this.engine.delete(this.#rows.leaseKey(id, key), this.#index);
  }

  keysOf(id: number): Uint8Array[] {
    return this.#leases.keysOf(id);
  }

  list(after: number, limit: number): StoredLease[] {
    return this.#leases.list(after, limit);
  }

  clear(): void {
    this.#leases.clear();
    this.#changed.clear();
    this.#stored.clear();
    this.engine.raiseFloor(keyspace.lease, this.#index);
    this.engine.raiseFloor(keyspace.leaseKey, this.#index);
  }

  /** Writes the rows of the leases that have changed since the last flush point. */
  flush(): void {
    for (const id of this.#changed) {
      const { ttlMs, keepAlives, keys } = this.#leases.get(id)!;
      this.engine.put(this.#rows.lease(id), this.#rows.numbers(ttlMs, keepAlives, keys), this.#index, id, 0);
      this.#stored.add(id);
    }
    this.#changed.clear();
  }

  /** Returns the leases whose rows in the store are older than they are. */
  changed(): StoredLease[] {
    return Array.from(this.#changed, (id) => this.#leases.get(id)!);
  }
}

const NO_BYTES = new Uint8Array(0);
