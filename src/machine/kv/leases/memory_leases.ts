import { assert } from "../../../base/assert.js";
import { keyName } from "../../../base/key_name.js";
import type { LeaseStore, StoredLease } from "./lease_store.js";

/** Leases in memory; keys are stored as Latin-1 text, which sorts as their bytes do. */
export class MemoryLeases implements LeaseStore {
  /** In ascending order of id, which is that of the grants. */
  readonly #leases = new Map<number, StoredLease>();
  readonly #keys = new Map<number, Set<string>>();

  get count(): number {
    return this.#leases.size;
  }

  get(id: number): StoredLease | undefined {
    return this.#leases.get(id);
  }

  put(lease: StoredLease): void {
    this.#leases.set(lease.id, lease);
  }

  delete(id: number): void {
    assert(this.#leases.delete(id), "a lease that ends exists", { id });
    this.#keys.delete(id);
  }

  addKey(id: number, key: Uint8Array): void {
    const keys = this.#keys.get(id) ?? new Set();
    keys.add(keyName(key));
    this.#keys.set(id, keys);
  }

  removeKey(id: number, key: Uint8Array): void {
    assert(this.#keys.get(id)?.delete(keyName(key)) === true, "the index of a lease holds its key", { id });
  }

  keysOf(id: number): Uint8Array[] {
    return [...(this.#keys.get(id) ?? [])].sort().map((name) => Buffer.from(name, "latin1"));
  }

  clear(): void {
    this.#leases.clear();
    this.#keys.clear();
  }

  /** Returns up to `limit` leases above `after`, in ascending order of id. */
  list(after: number, limit: number): StoredLease[] {
    const found: StoredLease[] = [];
    for (const lease of this.#leases.values()) {
      if (found.length >= limit) break;
      if (lease.id > after) found.push(lease);
    }
    return found;
  }
}
