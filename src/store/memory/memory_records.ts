import { compareSpans } from "../bytes.js";
import { type RecordKind, recordKind, type StoreRecord } from "../record.js";
import { hash } from "../rules/v1.js";
import type { Arena } from "./arena_pool.js";
import {
  FIRST_UNIT,
  KEY_HASH_WORD,
  KEY_HEAD_BYTES,
  KEY_LENGTH_WORD,
  KEY_NEWEST_WORD,
  KEY_WORD,
  KIND_WORD,
  OLDER_WORD,
  RECORD_UNITS,
  VALUE_LENGTH_WORD,
  VERSION_UNIT,
} from "./layout.js";
import { sortKeys } from "./sort_keys.js";

/** Records of keys that begin with this byte, and are older than the version, count as nothing. */
export interface Floor {
  readonly firstByte: number;
  readonly version: number;
}

/** A table in memory that a worker can read beside this thread. Structured clone takes it. */
export interface SharedTable extends Arena {
  readonly count: number;
  readonly seed: number;
  readonly floors: readonly Floor[];
}

/**
 * Reads of a table in memory. A record is named by its place, a number above 0; 0 is no record.
 * Places are valid until the table is released, or the record rolled back.
 */
export class MemoryRecords {
  /** The arena. */
  bytes: Uint8Array;
  words: Uint32Array;
  protected doubles: Float64Array;
  protected slots: Uint32Array;
  /** Number of keys, those that are removed included. */
  count: number;

  constructor(
    arena: Arena,
    count: number,
    readonly seed: number,
    readonly floors: readonly Floor[],
  ) {
    this.bytes = new Uint8Array(arena.buffer);
    this.words = new Uint32Array(arena.buffer);
    this.doubles = new Float64Array(arena.buffer);
    this.slots = new Uint32Array(arena.slots);
    this.count = count;
  }

  /** Opens a table that {@link MemoryTable.share} handed over. Nothing may write to it now. */
  static of(shared: SharedTable): MemoryRecords {
    return new MemoryRecords(shared, shared.count, shared.seed, shared.floors);
  }

  /**
   * Returns the place of a key's newest record, or of its newest as of a version. It stands for all
   * older ones of this table, which are combined as they are written.
   */
  find(key: Uint8Array, atVersion = Number.MAX_SAFE_INTEGER): number {
    const keyPlace = this.slots[this.slotOf(key, hash(key, 0, key.length, this.seed)) + 1]!;
    return keyPlace === 0 ? 0 : this.newestOf(keyPlace, atVersion);
  }

  /** Returns the place of the newest record, as of a version, of the key at a key's place. */
  newestOf(keyPlace: number, atVersion: number): number {
    const { words, doubles } = this;
    let place = words[keyPlace * 2 + KEY_NEWEST_WORD]!;
    while (place !== 0 && doubles[place + VERSION_UNIT]! > atVersion) place = words[place * 2 + OLDER_WORD]!;
    if (place === 0 || this.floors.length === 0) return place;
    const floor = this.floorOf(this.bytes[keyPlace * 8 + KEY_HEAD_BYTES]!, atVersion);
    return doubles[place + VERSION_UNIT]! < floor ? 0 : place;
  }

  /** Returns the place of the oldest record of the key of a record, floors aside. */
  oldestOf(place: number): number {
    const { words } = this;
    let oldest = place;
    while (words[oldest * 2 + OLDER_WORD] !== 0) oldest = words[oldest * 2 + OLDER_WORD]!;
    return oldest;
  }

  /** Returns the version below which keys with this first byte count as nothing; or 0. */
  floorOf(firstByte: number, atVersion: number): number {
    let version = 0;
    for (const floor of this.floors) {
      if (floor.firstByte === firstByte && floor.version <= atVersion) version = floor.version;
    }
    return version;
  }

  kindOf(place: number): RecordKind {
    return (this.words[place * 2 + KIND_WORD]! & 0xff) as RecordKind;
  }

  tagOf(place: number): number {
    return (this.words[place * 2 + KIND_WORD]! >>> 8) & 0xff;
  }

  versionOf(place: number): number {
    return this.doubles[place + VERSION_UNIT]!;
  }

  /** First version: see {@link StoreRecord.first}. */
  firstOf(place: number): number {
    return this.doubles[place + FIRST_UNIT]!;
  }

  /** Returns the key, lent: a part of the arena. */
  keyOf(place: number): Uint8Array {
    const keyPlace = this.words[place * 2 + KEY_WORD]!;
    const start = keyPlace * 8 + KEY_HEAD_BYTES;
    return this.bytes.subarray(start, start + this.words[keyPlace * 2 + KEY_LENGTH_WORD]!);
  }

  /** Returns the value, lent: a part of the arena. */
  valueOf(place: number): Uint8Array {
    const start = (place + RECORD_UNITS) * 8;
    return this.bytes.subarray(start, start + this.words[place * 2 + VALUE_LENGTH_WORD]!);
  }

  /** Returns the record. Its bytes are parts of the arena. */
  record(place: number): StoreRecord {
    return {
      key: this.keyOf(place),
      kind: this.kindOf(place),
      tag: this.tagOf(place),
      version: this.versionOf(place),
      first: this.firstOf(place),
      value: this.valueOf(place),
    };
  }

  /**
   * Returns the places of all keys' newest records in ascending order of the keys, without those
   * that are nothing: `gone`, or below a floor. About a microsecond for each key.
   */
  sorted(): Uint32Array {
    const places = new Uint32Array(this.count);
    let count = 0;
    for (let slot = 1; slot < this.slots.length; slot += 2) {
      if (this.slots[slot] !== 0) places[count++] = this.slots[slot]!;
    }
    sortKeys(this.bytes, this.words, places.subarray(0, count));
    let kept = 0;
    for (let at = 0; at < count; at += 1) {
      const place = this.newestOf(places[at]!, Number.MAX_SAFE_INTEGER);
      if (place !== 0 && this.kindOf(place) !== recordKind.gone) places[kept++] = place;
    }
    return places.subarray(0, kept);
  }

  /** Compares the key at a key's place with another. */
  compareKeyAt(keyPlace: number, key: Uint8Array): number {
    const start = keyPlace * 8 + KEY_HEAD_BYTES;
    return compareSpans(this.bytes, start, this.words[keyPlace * 2 + KEY_LENGTH_WORD]!, key, 0, key.length);
  }

  /** Returns the slot of a key: the first word of a pair, which is that of the key or free. */
  protected slotOf(key: Uint8Array, keyHash: number): number {
    const { slots, words, bytes } = this;
    const mask = slots.length - 1;
    let slot = (keyHash << 1) & mask;
    for (;;) {
      const place = slots[slot + 1]!;
      if (place === 0) return slot;
      if (slots[slot] === keyHash && words[place * 2 + KEY_LENGTH_WORD] === key.length) {
        const start = place * 8 + KEY_HEAD_BYTES;
        let at = 0;
        while (at < key.length && bytes[start + at] === key[at]) at += 1;
        if (at === key.length) return slot;
      }
      slot = (slot + 2) & mask;
    }
  }

  /** Returns the slot of a key that the table holds, by its place. */
  protected slotOfPlace(keyPlace: number): number {
    const mask = this.slots.length - 1;
    let slot = (this.words[keyPlace * 2 + KEY_HASH_WORD]! << 1) & mask;
    while (this.slots[slot + 1] !== keyPlace) slot = (slot + 2) & mask;
    return slot;
  }
}
