import type { MemoryRecords } from "./memory_records.js";
import { compareKeys, sortKeys } from "./sort_keys.js";

/** New keys that are sorted at once while they come in, where order is asked for by habit. */
const KEYS_AT_ONCE = 512;

/**
 * The keys of a memory table that begin with one byte: those that were sorted, in order, and behind
 * them those that came since. Sorted only when a cursor needs it: a tree would cost each put more
 * than the rest of it.
 */
export class KeyOrder {
  /** Counts the changes of the sorted keys' numbers, for cursors that are under way. */
  changes = 0;
  readonly #records: MemoryRecords;
  readonly #isHabit: boolean;
  #keys: Uint32Array<ArrayBuffer> = new Uint32Array(64);
  #count = 0;
  #sorted = 0;

  /** `isHabit`: sort as keys come, so that a cursor finds little to do. */
  constructor(records: MemoryRecords, isHabit: boolean) {
    this.#records = records;
    this.#isHabit = isHabit;
  }

  /** Number of keys in order. */
  get length(): number {
    return this.#sorted;
  }

  /** Returns the place of a key by its number in order. */
  keyAt(number: number): number {
    return this.#keys[number]!;
  }

  /** Adds a new key by its place. */
  add(keyPlace: number): void {
    if (this.#count === this.#keys.length) {
      const keys = new Uint32Array(this.#count * 2);
      keys.set(this.#keys);
      this.#keys = keys;
    }
    this.#keys[this.#count++] = keyPlace;
    if (this.#isHabit && this.#count - this.#sorted >= KEYS_AT_ONCE) this.settle();
  }

  /** Drops the keys at or behind a place, which were taken back. */
  keepBelow(place: number): void {
    let kept = 0;
    let sorted = 0;
    for (let at = 0; at < this.#count; at += 1) {
      const keyPlace = this.#keys[at]!;
      if (keyPlace >= place) continue;
      this.#keys[kept++] = keyPlace;
      if (at < this.#sorted) sorted += 1;
    }
    this.#count = kept;
    this.#sorted = sorted;
    this.changes += 1;
  }

  /** Puts all keys in order. */
  settle(): void {
    if (this.#sorted === this.#count) return;
    const { bytes, words } = this.#records;
    const added = this.#keys.subarray(this.#sorted, this.#count);
    sortKeys(bytes, words, added);
    if (this.#sorted > 0 && compareKeys(bytes, words, this.#keys[this.#sorted - 1]!, added[0]!) > 0) {
      this.#merge(added.slice());
    }
    this.#sorted = this.#count;
  }

  /** Returns the number of the first key at or behind another, or behind it alone. */
  seek(key: Uint8Array, isInclusive: boolean): number {
    let [low, high] = [0, this.#sorted];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = this.#records.compareKeyAt(this.#keys[middle]!, key);
      if (order < 0 || (order === 0 && !isInclusive)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Merges sorted new keys into the others from behind; those between two of them move as a whole. */
  #merge(added: Uint32Array): void {
    const { bytes, words } = this.#records;
    const keys = this.#keys;
    let rest = this.#sorted;
    let to = this.#count;
    for (let from = added.length - 1; from >= 0; from -= 1) {
      let [low, high] = [0, rest];
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (compareKeys(bytes, words, keys[middle]!, added[from]!) < 0) low = middle + 1;
        else high = middle;
      }
      keys.copyWithin(to - (rest - low), low, rest);
      to -= rest - low;
      rest = low;
      keys[--to] = added[from]!;
    }
    this.changes += 1;
  }
}
