import type { KeyRecord } from "../record_store.js";
import { type Effects, EffectsEncoder } from "./effects.js";

/** Records as they were before the changes of an entry, in the order of the changes. */
export interface RecordsBefore {
  readonly index: number;
  readonly records: (KeyRecord | undefined)[];
}

/** A put of which it is not known whether it created its key. */
export interface OpenPut {
  readonly index: number;
  readonly key: Uint8Array;
}

/**
 * Takes notes of the effects of entries while they are applied. An entry that has the effects that
 * its command suggests costs nothing.
 */
export class EffectNotes {
  readonly #encoder = new EffectsEncoder();
  #index = 0;
  #clearedAt: number | undefined;
  #open: OpenPut[] = [];
  /** Whether the record before each change is to be noted. */
  #isKeeping = false;
  #before: RecordsBefore[] = [];

  /** Begins anew. `keepsRecords`: whether the record before each change is wanted. */
  clear(keepsRecords: boolean): void {
    this.#encoder.clear();
    this.#clearedAt = undefined;
    this.#isKeeping = keepsRecords;
    this.#before = [];
    if (this.#open.length > 0) this.#open = [];
  }

  /** Begins the notes about an entry. */
  begin(index: number): void {
    this.#index = index;
  }

  /** Notes that the entry has other effects than its command suggests. */
  note(effects: Effects): void {
    this.#encoder.put(this.#index, effects);
  }

  /** Notes that the entry has set a key, and that nobody has looked whether that created it. */
  open(key: Uint8Array): void {
    this.#open.push({ index: this.#index, key });
  }

  /** Puts of which it is not known whether they created their key. The keys are lent. */
  get openPuts(): readonly OpenPut[] {
    return this.#open;
  }

  /** Notes that the entry has replaced all keys. */
  replacedAll(): void {
    this.#clearedAt = this.#index;
  }

  get keepsRecords(): boolean {
    return this.#isKeeping;
  }

  /**
   * Notes the record of a key before its change, a copy that is kept; undefined when the key did
   * not exist. Call this only when {@link keepsRecords} says so.
   */
  before(record: KeyRecord | undefined): void {
    let last = this.#before.at(-1);
    if (last?.index !== this.#index) {
      last = { index: this.#index, records: [] };
      this.#before.push(last);
    }
    last.records.push(record);
  }

  /** The encoded notes, valid until the next call. */
  get bytes(): Buffer {
    return this.#encoder.bytes;
  }

  /** Index of the last entry that has replaced all keys. */
  get clearedAt(): number | undefined {
    return this.#clearedAt;
  }

  get recordsBefore(): readonly RecordsBefore[] {
    return this.#before;
  }
}

export const NOTHING: Effects = { type: "nothing" };
export const CREATED: Effects = { type: "created" };
