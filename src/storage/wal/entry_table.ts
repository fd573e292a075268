import { assert } from "../../base/assert.js";

/**
 * Tracks the records of a segment's live entries: consecutive indexes, ascending offsets, eight
 * bytes for each entry.
 */
export class EntryTable {
  #first = 0;
  #count = 0;
  #offsets = new Uint32Array(64);
  #payloadBytes = new Uint32Array(64);

  get count(): number {
    return this.#count;
  }

  /** Meaningless when the table is empty. */
  get firstIndex(): number {
    return this.#first;
  }

  /** Index of the last entry; -1 when the table is empty. */
  get lastIndex(): number {
    return this.#count === 0 ? -1 : this.#first + this.#count - 1;
  }

  append(index: number, offset: number, payloadBytes: number): void {
    if (this.#count === 0) this.#first = index;
    assert(index === this.#first + this.#count, "a segment's entries are consecutive", { index, first: this.#first });
    if (this.#count === this.#offsets.length) this.#grow();
    this.#offsets[this.#count] = offset;
    this.#payloadBytes[this.#count] = payloadBytes;
    this.#count++;
  }

  /** Forgets the entries from `index` on. */
  truncateFrom(index: number): void {
    this.#count = Math.max(0, Math.min(this.#count, index - this.#first));
  }

  offsetOf(index: number): number {
    return this.#offsets[this.#slot(index)]!;
  }

  payloadBytesOf(index: number): number {
    return this.#payloadBytes[this.#slot(index)]!;
  }

  /**
   * Returns the highest index whose record starts at or before `offset`; the first index when none
   * does.
   */
  indexAtOrBefore(offset: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#offsets[middle]! <= offset) low = middle + 1;
      else high = middle;
    }
    return this.#first + Math.max(0, low - 1);
  }

  /**
   * Returns the bytes from the first of these entries in the table to the end of the last one;
   * `end` is the end of the table's last entry.
   */
  bytesBetween(first: number, last: number, end: number): number {
    const from = Math.max(first, this.#first);
    const to = Math.min(last, this.lastIndex);
    if (from > to) return 0;
    return (to === this.lastIndex ? end : this.offsetOf(to + 1)) - this.offsetOf(from);
  }

  #slot(index: number): number {
    const slot = index - this.#first;
    assert(slot >= 0 && slot < this.#count, "the entry is in the segment", { index, first: this.#first });
    return slot;
  }

  #grow(): void {
    this.#offsets = grown(this.#offsets);
    this.#payloadBytes = grown(this.#payloadBytes);
  }
}

function grown(array: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(array.length * 2);
  larger.set(array);
  return larger;
}
