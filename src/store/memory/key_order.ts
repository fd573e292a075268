import type { MemoryRecords } from "./memory_records.js";
import { compareKeys, sortKeys } from "./sort_keys.js";

/** Keys of a full leaf, and of one that is made from sorted keys: it has room for some more. */
const LEAF_KEYS = 128;
const BULK_KEYS = 96;

interface Leaf {
  readonly keys: Uint32Array<ArrayBuffer>;
  count: number;
}

/**
 * The keys of a memory table that begin with one byte, by their places.
 *
 * They are only listed until a cursor asks for their order: to keep them in order costs a put more
 * than the rest of it. Then they are sorted, and later ones inserted, into a tree of two levels.
 *
 * A position is a number, valid until {@link changes} changes.
 */
export class KeyOrder {
  /** Counts the changes of the order, for cursors that are under way. */
  changes = 0;
  readonly #records: MemoryRecords;
  #state: "listed" | "ordered";
  #listed: Uint32Array<ArrayBuffer> = new Uint32Array(16);
  #count = 0;
  #leaves: Leaf[] = [];

  /** `isAsked`: a cursor is likely to ask, so that keys are put in order as they come. */
  constructor(records: MemoryRecords, isAsked: boolean) {
    this.#records = records;
    this.#state = isAsked ? "ordered" : "listed";
  }

  /** Adds a new key. */
  add(keyPlace: number): void {
    if (this.#state === "ordered") {
      this.#insert(keyPlace);
      return;
    }
    if (this.#count === this.#listed.length) {
      const listed = new Uint32Array(this.#count * 2);
      listed.set(this.#listed);
      this.#listed = listed;
    }
    this.#listed[this.#count++] = keyPlace;
  }

  /** Removes the key that was added last, whose bytes are still in place. */
  removeNewest(keyPlace: number): void {
    if (this.#state === "listed") {
      this.#count -= 1;
      return;
    }
    const number = this.#leafOf(keyPlace);
    const leaf = this.#leaves[number]!;
    const index = leaf.keys.indexOf(keyPlace);
    leaf.keys.copyWithin(index, index + 1, leaf.count);
    leaf.count -= 1;
    if (leaf.count === 0) this.#leaves.splice(number, 1);
    this.changes += 1;
  }

  /** Puts the keys in order: about half a microsecond for each at first, and nothing later. */
  settle(): void {
    if (this.#state === "ordered") return;
    const { bytes, words } = this.#records;
    const keys = this.#listed.subarray(0, this.#count);
    sortKeys(bytes, words, keys);
    for (let at = 0; at < keys.length; at += BULK_KEYS) {
      this.#leaves.push(leafWith(keys.subarray(at, at + BULK_KEYS)));
    }
    this.#listed = new Uint32Array(0);
    this.#state = "ordered";
    this.changes += 1;
  }

  /** Returns the position of the first key at or behind another; or behind it alone. */
  seek(key: Uint8Array, isInclusive: boolean): number {
    const isBefore = (keyPlace: number): boolean => {
      const order = this.#records.compareKeyAt(keyPlace, key);
      return order < 0 || (order === 0 && !isInclusive);
    };
    let [low, high] = [0, this.#leaves.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBefore(this.#leaves[middle]!.keys[0]!)) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return 0;
    const leaf = this.#leaves[low - 1]!;
    let [from, to] = [1, leaf.count];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (isBefore(leaf.keys[middle]!)) from = middle + 1;
      else to = middle;
    }
    return from === leaf.count ? low * LEAF_KEYS : (low - 1) * LEAF_KEYS + from;
  }

  /** Returns the key's place at a position, or 0 behind the last key. */
  keyAt(position: number): number {
    const leaf = this.#leaves[(position / LEAF_KEYS) | 0];
    return leaf === undefined ? 0 : leaf.keys[position % LEAF_KEYS]!;
  }

  /** Returns the position behind that of a key. */
  after(position: number): number {
    const number = (position / LEAF_KEYS) | 0;
    return (position % LEAF_KEYS) + 1 < this.#leaves[number]!.count ? position + 1 : (number + 1) * LEAF_KEYS;
  }

  #insert(keyPlace: number): void {
    this.changes += 1;
    if (this.#leaves.length === 0) {
      this.#leaves.push(leafWith([keyPlace]));
      return;
    }
    const number = this.#leafOf(keyPlace);
    const leaf = this.#leaves[number]!;
    const index = this.#indexIn(leaf, keyPlace);
    if (leaf.count < LEAF_KEYS) {
      insertAt(leaf, index, keyPlace);
      return;
    }
    // Ascending keys leave full leaves behind.
    const half = index === LEAF_KEYS ? LEAF_KEYS : LEAF_KEYS >>> 1;
    const next = leafWith(leaf.keys.subarray(half));
    leaf.count = half;
    this.#leaves.splice(number + 1, 0, next);
    if (index < half) insertAt(leaf, index, keyPlace);
    else insertAt(next, index - half, keyPlace);
  }

  /** Returns the number of the leaf that a key belongs to. */
  #leafOf(keyPlace: number): number {
    const { bytes, words } = this.#records;
    // Many keys come in ascending order.
    const last = this.#leaves.length - 1;
    let [low, high] = [0, last];
    while (low < high) {
      const middle = high === last ? high : (low + high + 1) >>> 1;
      if (compareKeys(bytes, words, this.#leaves[middle]!.keys[0]!, keyPlace) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #indexIn(leaf: Leaf, keyPlace: number): number {
    const { bytes, words } = this.#records;
    let [low, high] = [0, leaf.count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareKeys(bytes, words, leaf.keys[middle]!, keyPlace) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function leafWith(some: ArrayLike<number>): Leaf {
  const keys = new Uint32Array(LEAF_KEYS);
  keys.set(some);
  return { keys, count: some.length };
}

function insertAt(leaf: Leaf, index: number, keyPlace: number): void {
  if (index < leaf.count) leaf.keys.copyWithin(index + 1, index, leaf.count);
  leaf.keys[index] = keyPlace;
  leaf.count += 1;
}
