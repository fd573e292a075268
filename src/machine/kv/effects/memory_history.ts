import { limits } from "../../../base/limits.js";
import type { KeyRecord } from "../record_store.js";
import { type ChangeHistory, KeptRecords } from "./change_history.js";
import type { EffectNotes } from "./effect_notes.js";
import { decodeEffects, type Effects, type IndexSpan } from "./effects.js";

/** The history of changes of a machine in memory. */
export class MemoryHistory implements ChangeHistory {
  /** Notes of applied batches, oldest first, by the index of the last entry. */
  #rows: { readonly last: number; readonly notes: Uint8Array }[] = [];
  #bytes = 0;
  #since = 1;
  readonly #kept = new KeptRecords();

  get since(): number {
    return this.#since;
  }

  get isKeeping(): boolean {
    return this.#kept.isKeeping;
  }

  /** Adds the notes about the entries up to `last`. */
  add(last: number, notes: EffectNotes): void {
    if (notes.clearedAt !== undefined) this.#since = notes.clearedAt + 1;
    const { bytes } = notes;
    if (bytes.byteLength > 0) {
      this.#rows.push({ last, notes: Uint8Array.prototype.slice.call(bytes) });
      this.#bytes += bytes.byteLength;
    }
    this.#kept.add(notes.recordsBefore);
    while (this.#bytes > limits.effectBytes) this.#forgetOldest();
  }

  /** Forgets everything: the state is now a snapshot's at `index`. */
  restart(index: number): void {
    this.#rows = [];
    this.#bytes = 0;
    this.#since = index + 1;
    this.#kept.clear();
  }

  effects(span: IndexSpan): ReadonlyMap<number, Effects> {
    const found = new Map<number, Effects>();
    for (const { last, notes } of this.#rows.slice(this.#rowAtOrAbove(span[0]))) {
      decodeEffects(notes, span, found);
      if (last >= span[1]) break;
    }
    return found;
  }

  keepRecords(): () => void {
    return this.#kept.keep();
  }

  recordsBefore(index: number): readonly (KeyRecord | undefined)[] | undefined {
    return this.#kept.get(index);
  }

  forget(index: number): void {
    while ((this.#rows[0]?.last ?? Number.POSITIVE_INFINITY) <= index) this.#forgetOldest();
  }

  #forgetOldest(): void {
    const { last, notes } = this.#rows.shift()!;
    this.#bytes -= notes.byteLength;
    this.#since = Math.max(this.#since, last + 1);
  }

  /** Returns the position of the first row that ends at `index` or above. */
  #rowAtOrAbove(index: number): number {
    let [low, high] = [0, this.#rows.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#rows[middle]!.last < index) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
