import { ENTRY_OVERHEAD_BYTES } from "../types.js";

/**
 * Bounds the bytes of the uncommitted entries that a leader has appended: a queue that refuses
 * entries rather than grow.
 */
export class Uncommitted {
  #entries: { readonly index: number; readonly bytes: number }[] = [];
  #bytes = 0;

  constructor(private readonly maxBytes: number) {}

  /**
   * Whether an entry with this much data has no room. An empty queue takes an entry of any size.
   */
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
