/**
 * Checks that each lease of a payload has as many keys as it counts. Takes 12 bytes a lease: there
 * may be a million.
 */
export class LeaseKeyCounts {
  /** Ids of the leases, in ascending order. */
  #ids = new Float64Array(16);
  /** Keys of each lease that have not come yet. */
  #left = new Uint32Array(16);
  #count = 0;

  /** The id that was pushed last; 0 before the first. */
  get last(): number {
    return this.#count === 0 ? 0 : this.#ids[this.#count - 1]!;
  }

  /** Adds a lease, with an id above {@link last}. */
  push(id: number, keys: number): void {
    if (this.#count === this.#ids.length) this.#grow();
    this.#ids[this.#count] = id;
    this.#left[this.#count] = keys;
    this.#count++;
  }

  /** Counts a key of a lease. Returns false when the lease is unknown, or has all of its keys. */
  take(id: number): boolean {
    const at = this.#placeOf(id);
    if (at === undefined || this.#left[at] === 0) return false;
    this.#left[at]!--;
    return true;
  }

  /** A lease that lacks keys; undefined when none does. */
  get missing(): number | undefined {
    for (let at = 0; at < this.#count; at++) if (this.#left[at] !== 0) return this.#ids[at];
    return undefined;
  }

  #placeOf(id: number): number | undefined {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ids[middle]! < id) low = middle + 1;
      else high = middle;
    }
    return low < this.#count && this.#ids[low] === id ? low : undefined;
  }

  #grow(): void {
    const [ids, left] = [this.#ids, this.#left];
    this.#ids = new Float64Array(2 * ids.length);
    this.#left = new Uint32Array(2 * left.length);
    this.#ids.set(ids);
    this.#left.set(left);
  }
}
