import type { Transaction } from "lmdb";
import { limits } from "../../../base/limits.js";
import { decodeEffects, type Effects, type IndexSpan } from "../../kv/effects/effects.js";
import { CHECKSUM_BYTES, type Tally } from "../checksums.js";
import { NUMBER_BYTES, numberAt, numberKey, type SealedTable } from "../table.js";

// Stores the effects of entries: one row holds the notes of one transaction.
//
//   index of the transaction's last entry (8, big-endian)   -> notes; see kv/effects/effects.ts
//
// The rows are local to the node: a snapshot has none. The oldest are forgotten, some with each
// transaction, so that no transaction takes long.

/** The extent of the known effects, and the bytes of their rows. Part of the state's mark. */
export interface EffectsKnown {
  /** First index from which on all effects are known. */
  readonly since: number;
  readonly bytes: number;
}

/** Rows that one transaction forgets at most. */
const FORGOTTEN_AT_ONCE = 4;

/** The table of effects. Writes must be within a transaction of its environment. */
export class EffectRows {
  #known: EffectsKnown = { since: 1, bytes: 0 };
  /** Index of the oldest row, or of an older one; undefined when it must be looked up. */
  #oldest: number | undefined;
  #forgettable = 0;

  constructor(private readonly table: SealedTable) {}

  get known(): EffectsKnown {
    return this.#known;
  }

  /** Sets what is known after an opening, a restore, or a transaction that has failed. */
  set known(known: EffectsKnown) {
    this.#known = known;
    this.#oldest = undefined;
  }

  /** Stores the notes of a transaction that ends with the entry at `last`. */
  write(last: number, notes: Uint8Array, clearedAt: number | undefined): void {
    if (clearedAt !== undefined) {
      this.#known = { ...this.#known, since: clearedAt + 1 };
      this.#forgettable = Math.max(this.#forgettable, clearedAt);
    }
    if (notes.byteLength > 0) {
      const row = Buffer.allocUnsafe(CHECKSUM_BYTES + notes.byteLength);
      row.set(notes, CHECKSUM_BYTES);
      this.table.add(numberKey(last), row);
      this.#known = { ...this.#known, bytes: this.#known.bytes + NUMBER_BYTES + row.byteLength };
      this.#oldest ??= this.#lookUpOldest();
    }
    this.#forgetSome();
  }

  /** Allows the rows of entries up to `index` to be forgotten. */
  forget(index: number): void {
    this.#forgettable = Math.max(this.#forgettable, index);
  }

  /**
   * Returns the effects of a span of entries, as far as they are noted.
   * @throws CairnError CORRUPT
   */
  effects(span: IndexSpan, transaction: Transaction): Map<number, Effects> {
    const found = new Map<number, Effects>();
    const [first, last] = span;
    const read = this.table.rows({ start: numberKey(first), transaction }, (key, row) => {
      decodeEffects(row.subarray(CHECKSUM_BYTES), span, found);
      return numberAt(key);
    });
    // The first row that ends at `last` or above also holds the last notes of the span.
    for (const index of read) if (index >= last) break;
    return found;
  }

  /** Counts all rows, as the transaction sees them. @throws CairnError CORRUPT */
  walk(transaction: Transaction, walked: Tally): void {
    for (const mark of this.table.rows({ transaction }, (key) => this.table.keyMark(key))) walked.add(mark);
  }

  #forgetSome(): void {
    if (this.#known.bytes === 0) return;
    this.#oldest ??= this.#lookUpOldest();
    if (!this.#isForgettable(this.#oldest)) return;
    const rows = this.#firstRows(FORGOTTEN_AT_ONCE + 1);
    let { since, bytes: left } = this.#known;
    for (const { index, bytes } of rows.slice(0, FORGOTTEN_AT_ONCE)) {
      if (!this.#isForgettable(index)) break;
      this.table.remove(numberKey(index));
      since = Math.max(since, index + 1);
      left -= bytes;
      this.#known = { since, bytes: left };
    }
    this.#oldest = rows.find(({ index }) => index >= since)?.index;
  }

  #isForgettable(row: number): boolean {
    return row <= this.#forgettable || this.#known.bytes > limits.effectBytes;
  }

  #lookUpOldest(): number {
    return this.#firstRows(1)[0]?.index ?? Number.POSITIVE_INFINITY;
  }

  /** Returns the oldest rows, up to `most`. */
  #firstRows(most: number): { readonly index: number; readonly bytes: number }[] {
    const rows: { readonly index: number; readonly bytes: number }[] = [];
    const sizeOf = (key: Buffer, { byteLength }: Buffer) => ({
      index: numberAt(key),
      bytes: NUMBER_BYTES + byteLength,
    });
    for (const row of this.table.rows({}, sizeOf)) {
      rows.push(row);
      if (rows.length >= most) break;
    }
    return rows;
  }
}
