import { ENTRY_OVERHEAD_BYTES } from "../types.js";

/**
 * Sizes of the entries above the commit index that a leader appended: a queue that refuses rather
 * than grow.
 */
export class Uncommitted {
  #entries: { readonly index: number; readonly bytes: number }[] = [];
  #bytes = 0;

  constructor(private readonly maxBytes: number) {}

  /** Whether there is no room for one more entry with so much data. An empty queue takes any. */
  isFull(dataBytes: number): boolean {
    return this.#bytes > 0 && this.#bytes + dataBytes + ENTRY_OVERHEAD_BYTES > this.maxBytes;
  }

  add(index: number, bytes: number): void {
    this.#entries.push({ index, bytes });
    this.#bytes += bytes;
  }

  committed(index: number): void {
    let count = 0;
    for (; count < this.#entries.length && this.#entries[count]!.index <= index; count++) {
      this.#bytes -= this.#entries[count]!.bytes;
    }
    this.#entries.splice(0, count);
  }
}
