import { assert } from "../../base/assert.js";
import type { Existed } from "../reads.js";
import { type RecordKind, recordKind } from "../record.js";
import { chargeOf, combinedFirst, combinedKind, hash } from "../rules/v1.js";
import type { Arena, ArenaPool } from "./arena_pool.js";
import { KeyOrder } from "./key_order.js";
import {
  BEFORE_WORD,
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
import { MemoryCursor } from "./memory_cursor.js";
import { type Floor, MemoryRecords, type SharedTable } from "./memory_records.js";

const { gone, known, inherits, deleted, only } = recordKind;

/** Place of the first record: place 0 is none. */
const FIRST_PLACE = 1;
const NO_BYTES = new Uint8Array(0);

interface PlacedFloor extends Floor {
  /** End of the arena when the floor was raised. */
  readonly place: number;
}

/**
 * The table in memory: the records written since a flush point. Versions ascend. A record stays as
 * it was when newer ones of its key come, so that views read the table as of their version.
 */
export class MemoryTable extends MemoryRecords {
  /** Bytes of the records written, as {@link chargeOf} counts them. */
  charge = 0;
  /** Deletes written that older tables need, those that were taken back included. */
  deletes = 0;
  #arena: Arena;
  readonly #pool: ArenaPool;
  /** Place of the next record. */
  #end = FIRST_PLACE;
  /** The record written last, or 0. */
  #last = 0;
  readonly #floors: PlacedFloor[];
  readonly #orders: (KeyOrder | undefined)[] = new Array(256).fill(undefined);
  #state: "open" | "released" = "open";

  constructor(pool: ArenaPool) {
    const arena = pool.take();
    const floors: PlacedFloor[] = [];
    super(arena, 0, pool.seed, floors);
    this.#arena = arena;
    this.#pool = pool;
    this.#floors = floors;
  }

  /** Writes a key whose record the caller has read, or which it knows to be absent. */
  put(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void {
    this.#write(key, value, known, version, created, tag);
  }

  /**
   * Writes a key without a look at older tables. Returns whether it existed, as far as this one
   * tells.
   */
  putBlind(key: Uint8Array, value: Uint8Array, version: number, tag: number): Existed {
    const older = this.#write(key, value, inherits, version, version, tag);
    if (older === undefined) return this.floorOf(key[0]!, version) > 0 ? "no" : "unknown";
    return older === deleted || older === gone ? "no" : "yes";
  }

  /** Writes a key that no older table can hold. */
  putOnly(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void {
    this.#write(key, value, only, version, created, tag);
  }

  delete(key: Uint8Array, version: number): void {
    this.#write(key, NO_BYTES, deleted, version, 0, 0);
  }

  /** Lets all records of keys that begin with this byte, older than `version`, count as nothing. */
  raiseFloor(firstByte: number, version: number): void {
    this.#floors.push({ firstByte, version, place: this.#end });
    // Takes up room, so that a mark lies either before it or behind it.
    this.#reserve(1);
    this.#end += 1;
  }

  /** Returns the place of the table's end, to go back to. */
  mark(): number {
    return this.#end;
  }

  /** Takes back all writes since a mark. */
  rollback(mark: number): void {
    assert(mark >= FIRST_PLACE && mark <= this.#end, "the mark lies in the table", { mark, end: this.#end });
    for (; this.#last >= mark; this.#last = this.words[this.#last * 2 + BEFORE_WORD]!) this.#takeBack(this.#last);
    while (this.#floors.length > 0 && this.#floors.at(-1)!.place >= mark) this.#floors.pop();
    this.#end = mark;
  }

  /**
   * Opens a cursor over the keys from `start` on, and below `end` if there is one, as of a version.
   * The table's first cursor over a first byte sorts its keys: half a microsecond for each.
   */
  cursor(start: Uint8Array, end: Uint8Array | undefined, atVersion = Number.MAX_SAFE_INTEGER): MemoryCursor {
    // The order that a view needs once is not worth keeping up.
    if (atVersion === Number.MAX_SAFE_INTEGER) this.#pool.noteAsked(start[0] ?? 0);
    return new MemoryCursor(this, (firstByte) => this.#orders[firstByte], start, end, atVersion);
  }

  /** Returns the table for a worker. Nothing may be written to it from now on. */
  share(): SharedTable {
    const { buffer, slots } = this.#arena;
    const floors = this.floors.map(({ firstByte, version }) => ({ firstByte, version }));
    return { buffer, slots, count: this.count, seed: this.seed, floors };
  }

  /** Gives the memory back. Nothing may read the table, or hold its bytes, from now on. */
  release(): void {
    if (this.#state === "released") return;
    this.#state = "released";
    this.#pool.give(this.#arena);
  }

  /** Returns the kind of the key's older record that counts. */
  #write(
    key: Uint8Array,
    value: Uint8Array,
    kind: RecordKind,
    version: number,
    first: number,
    tag: number,
  ): RecordKind | undefined {
    const keyHash = hash(key, 0, key.length, this.seed);
    this.#reserve(((KEY_HEAD_BYTES + key.length + value.length + 14) >>> 3) + RECORD_UNITS);
    const slot = this.slotOf(key, keyHash);
    let keyPlace = this.slots[slot + 1]!;
    const isNew = keyPlace === 0;
    if (isNew) keyPlace = this.#addKey(key, keyHash, slot);
    const { words, doubles } = this;
    const place = this.#end;
    const word = place * 2;
    const older = words[keyPlace * 2 + KEY_NEWEST_WORD]!;
    const counts = isNew ? 0 : this.newestOf(keyPlace, version);
    let olderKind: RecordKind | undefined;
    let combined = kind;
    let combinedStart = first;
    if (counts !== 0) {
      olderKind = this.kindOf(counts);
      combined = combinedKind(kind, olderKind);
      combinedStart = combinedFirst(kind, first, olderKind, this.firstOf(counts));
    }
    words[word + OLDER_WORD] = older;
    words[word + BEFORE_WORD] = this.#last;
    words[word + KEY_WORD] = keyPlace;
    words[word + VALUE_LENGTH_WORD] = value.length;
    words[word + KIND_WORD] = combined | (tag << 8);
    doubles[place + VERSION_UNIT] = version;
    doubles[place + FIRST_UNIT] = combinedStart;
    if (value.length !== 0) this.bytes.set(value, (place + RECORD_UNITS) * 8);
    words[keyPlace * 2 + KEY_NEWEST_WORD] = place;
    this.#last = place;
    this.#end = place + RECORD_UNITS + ((value.length + 7) >>> 3);
    this.charge += chargeOf(key.length, value.length);
    if (combined === deleted) this.deletes += 1;
    return olderKind;
  }

  #addKey(key: Uint8Array, keyHash: number, slot: number): number {
    const place = this.#end;
    this.words[place * 2 + KEY_NEWEST_WORD] = 0;
    this.words[place * 2 + KEY_HASH_WORD] = keyHash;
    this.words[place * 2 + KEY_LENGTH_WORD] = key.length;
    const start = place * 8 + KEY_HEAD_BYTES;
    for (let at = 0; at < key.length; at += 1) this.bytes[start + at] = key[at]!;
    this.#end = place + ((KEY_HEAD_BYTES + key.length + 7) >>> 3);
    this.slots[slot] = keyHash;
    this.slots[slot + 1] = place;
    this.count += 1;
    // At most five eighths of the slots are in use.
    if (this.count * 16 > this.slots.length * 5) this.#growSlots();
    this.#newOrderOf(key[0]!).add(place);
    return place;
  }

  /** Takes the newest record back, and its key with the first one. */
  #takeBack(place: number): void {
    const { words } = this;
    const keyPlace = words[place * 2 + KEY_WORD]!;
    const older = words[place * 2 + OLDER_WORD]!;
    words[keyPlace * 2 + KEY_NEWEST_WORD] = older;
    this.charge -= chargeOf(words[keyPlace * 2 + KEY_LENGTH_WORD]!, words[place * 2 + VALUE_LENGTH_WORD]!);
    if (older !== 0) return;
    this.#orders[this.bytes[keyPlace * 8 + KEY_HEAD_BYTES]!]!.removeNewest(keyPlace);
    this.#freeSlot(this.slotOfPlace(keyPlace));
    this.count -= 1;
  }

  /** Frees a slot, and moves into it whatever would no longer be found behind it. */
  #freeSlot(freed: number): void {
    const { slots } = this;
    const mask = slots.length - 1;
    let hole = freed;
    for (let slot = (hole + 2) & mask; slots[slot + 1] !== 0; slot = (slot + 2) & mask) {
      const home = (slots[slot]! << 1) & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      slots[hole] = slots[slot]!;
      slots[hole + 1] = slots[slot + 1]!;
      hole = slot;
    }
    slots[hole + 1] = 0;
  }

  #growSlots(): void {
    const old = this.slots;
    this.#arena = { buffer: this.#arena.buffer, slots: new SharedArrayBuffer(old.byteLength * 2) };
    const slots = new Uint32Array(this.#arena.slots);
    const mask = slots.length - 1;
    for (let from = 0; from < old.length; from += 2) {
      if (old[from + 1] === 0) continue;
      let slot = (old[from]! << 1) & mask;
      while (slots[slot + 1] !== 0) slot = (slot + 2) & mask;
      slots[slot] = old[from]!;
      slots[slot + 1] = old[from + 1]!;
    }
    this.slots = slots;
  }

  /** Makes room for so many units behind the end. */
  #reserve(units: number): void {
    if (this.#end + units <= this.doubles.length) return;
    const bytes = Math.max(2 * this.bytes.length, (this.#end + units) * 8);
    const buffer = new SharedArrayBuffer((bytes + 7) & ~7);
    this.#arena = { buffer, slots: this.#arena.slots };
    const old = this.doubles.subarray(0, this.#end);
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
    this.doubles = new Float64Array(buffer);
    this.doubles.set(old);
  }

  #newOrderOf(firstByte: number): KeyOrder {
    let order = this.#orders[firstByte];
    if (order === undefined) {
      order = new KeyOrder(this, this.#pool.takeAsked(firstByte));
      this.#orders[firstByte] = order;
    }
    return order;
  }
}
