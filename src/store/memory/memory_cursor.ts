import type { KeyOrder } from "./key_order.js";
import type { MemoryRecords } from "./memory_records.js";

/**
 * Walks over the records of a memory table in ascending order of their keys, as of a version.
 * Removed keys are among them. The table may grow meanwhile.
 */
export class MemoryCursor {
  readonly #records: MemoryRecords;
  readonly #orderOf: (firstByte: number) => KeyOrder | undefined;
  readonly #start: Uint8Array;
  readonly #end: Uint8Array | undefined;
  readonly #atVersion: number;
  readonly #lastByte: number;
  #firstByte: number;
  #order: KeyOrder | undefined;
  /** The next key's position in the order, valid while the order's changes are these. */
  #position = 0;
  #changes = 0;
  /** The record returned last, or 0. */
  #last = 0;

  constructor(
    records: MemoryRecords,
    orderOf: (firstByte: number) => KeyOrder | undefined,
    start: Uint8Array,
    end: Uint8Array | undefined,
    atVersion: number,
  ) {
    this.#records = records;
    this.#orderOf = orderOf;
    this.#start = start;
    this.#end = end;
    this.#atVersion = atVersion;
    this.#lastByte = end === undefined ? 255 : (end[0] ?? -1);
    this.#firstByte = start[0] ?? 0;
    this.#open();
  }

  /** Returns the place of the next record, or 0 at the end. */
  next(): number {
    for (;;) {
      const order = this.#order;
      if (order === undefined) return 0;
      if (order.changes !== this.#changes) this.#seek(order);
      const keyPlace = order.keyAt(this.#position);
      if (keyPlace === 0) {
        this.#firstByte += 1;
        this.#open();
        continue;
      }
      if (this.#firstByte === this.#lastByte && this.#isBehind(keyPlace)) {
        this.#order = undefined;
        return 0;
      }
      this.#position = order.after(this.#position);
      const place = this.#records.newestOf(keyPlace, this.#atVersion);
      if (place === 0) continue;
      this.#last = place;
      return place;
    }
  }

  /** Opens the keys of the next first byte that has any. */
  #open(): void {
    this.#order = undefined;
    for (; this.#firstByte <= this.#lastByte; this.#firstByte += 1) {
      const order = this.#orderOf(this.#firstByte);
      if (order === undefined) continue;
      order.settle();
      this.#order = order;
      this.#seek(order);
      return;
    }
  }

  #seek(order: KeyOrder): void {
    this.#changes = order.changes;
    this.#position =
      this.#last === 0 ? order.seek(this.#start, true) : order.seek(this.#records.keyOf(this.#last), false);
  }

  #isBehind(keyPlace: number): boolean {
    return this.#end !== undefined && this.#records.compareKeyAt(keyPlace, this.#end) >= 0;
  }
}
