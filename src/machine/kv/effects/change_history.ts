import { limits } from "../../../base/limits.js";
import type { KeyRecord } from "../record_store.js";
import type { RecordsBefore } from "./effect_notes.js";
import type { Effects, IndexSpan } from "./effects.js";

/**
 * The effects of the entries that a machine has applied: with the entries of the log, they tell
 * each change. Local to the node: no part of a snapshot.
 */
export interface ChangeHistory {
  /** First index from which on all effects are known. */
  readonly since: number;
  /**
   * Returns the effects of the entries of a span, as far as they are not what the commands suggest.
   * The span must not begin below {@link since}.
   * @throws CairnError CORRUPT
   */
  effects(span: IndexSpan): ReadonlyMap<number, Effects>;
  /**
   * Keeps the records before all changes that are applied from now on, until the returned function
   * is called, once.
   */
  keepRecords(): () => void;
  /**
   * Returns the records before the changes of an entry, in the order of the changes; undefined when
   * they are not known. An entry without changes has none.
   */
  recordsBefore(index: number): readonly (KeyRecord | undefined)[] | undefined;
  /** Allows the machine to forget the effects of entries up to `index`. */
  forget(index: number): void;
}

/** Bytes that a record counts for besides its value. */
const RECORD_OVERHEAD_BYTES = 128;

/** Remembers records before their changes, the newest within `watchRecordBytes`. */
export class KeptRecords {
  readonly #entries = new Map<number, { readonly records: RecordsBefore["records"]; readonly bytes: number }>();
  #bytes = 0;
  #keepers = 0;

  get isKeeping(): boolean {
    return this.#keepers > 0;
  }

  keep(): () => void {
    this.#keepers++;
    return () => {
      this.#keepers--;
      if (this.#keepers === 0) this.clear();
    };
  }

  add(before: readonly RecordsBefore[]): void {
    for (const { index, records } of before) {
      const bytes = records.reduce((sum, record) => sum + RECORD_OVERHEAD_BYTES + (record?.value.byteLength ?? 0), 0);
      this.#entries.set(index, { records, bytes });
      this.#bytes += bytes;
    }
    for (const [index, { bytes }] of this.#entries) {
      if (this.#bytes <= limits.watchRecordBytes) return;
      this.#entries.delete(index);
      this.#bytes -= bytes;
    }
  }

  get(index: number): RecordsBefore["records"] | undefined {
    return this.#entries.get(index)?.records;
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }
}
