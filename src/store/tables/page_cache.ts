import { assert } from "../../base/assert.js";

/** Entries up to this size share small slots: a directory does not take the room of a page. */
const SMALL_BYTES = 512;

/** Share of the cache that small slots take, and that entries larger than a page may take. */
const SMALL_SHARE = 8;
const LARGE_SHARE = 4;

/**
 * Keeps pages and directories of tables in memory: those that were used lately, by CLOCK, in one
 * piece of memory that is allocated once. Entries that are larger than a page are kept beside it,
 * the newest ones.
 */
export class PageCache {
  /** Bytes of the entry that {@link find} or {@link add} has returned true for last. */
  bytes: Uint8Array;
  /** Start of the entry in {@link bytes}. */
  at = 0;
  hits = 0;
  misses = 0;

  readonly #slab: Uint8Array;
  readonly #small: Slots;
  readonly #pages: Slots;
  readonly #large = new Map<string, Uint8Array>();
  readonly #largeMost: number;
  #largeBytes = 0;
  #owners = 0;

  /** `bytes`: in all, but for the bookkeeping. `pageBytes`: of the store's rules. */
  constructor(bytes: number, pageBytes: number) {
    const largeShare = Math.floor(bytes / LARGE_SHARE);
    const small = Math.max(1, Math.floor(bytes / SMALL_SHARE / SMALL_BYTES));
    const pageSlot = Math.max(pageBytes, SMALL_BYTES);
    const pages = Math.max(1, Math.floor((bytes - largeShare - small * SMALL_BYTES) / pageSlot));
    this.#slab = new Uint8Array(new ArrayBuffer(small * SMALL_BYTES + pages * pageSlot));
    this.#small = new Slots(0, SMALL_BYTES, small);
    this.#pages = new Slots(small * SMALL_BYTES, pageSlot, pages);
    this.#largeMost = largeShare;
    this.bytes = this.#slab;
  }

  /** Returns a number for a table that begins to use the cache. */
  newOwner(): number {
    this.#owners = (this.#owners + 1) >>> 0;
    return this.#owners;
  }

  /** Looks for the entry of a table at a position of its file. */
  find(owner: number, position: number, bytes: number): boolean {
    const isFound = this.#locate(owner, position, bytes);
    if (isFound) this.hits += 1;
    else this.misses += 1;
    return isFound;
  }

  /** Whether {@link find} would find the entry. */
  has(owner: number, position: number, bytes: number): boolean {
    if (bytes > this.#pages.slotBytes) return this.#large.has(nameOf(owner, position));
    return this.#slotsFor(bytes).find(owner, position) >= 0;
  }

  /**
   * Makes room for an entry that is not in the cache; the caller fills it before it does anything
   * else, or calls {@link drop}. For a large entry it gives the memory, too.
   */
  add(owner: number, position: number, bytes: number): void {
    if (bytes > this.#pages.slotBytes) {
      this.#addLarge(nameOf(owner, position), new Uint8Array(bytes));
      return;
    }
    this.bytes = this.#slab;
    this.at = this.#slotsFor(bytes).add(owner, position);
  }

  /** Removes an entry that could not be filled. */
  drop(owner: number, position: number, bytes: number): void {
    if (bytes <= this.#pages.slotBytes) {
      this.#slotsFor(bytes).drop(owner, position);
      return;
    }
    const name = nameOf(owner, position);
    this.#largeBytes -= this.#large.get(name)?.byteLength ?? 0;
    this.#large.delete(name);
  }

  /** Removes all entries of a table that is closed. */
  forget(owner: number): void {
    this.#small.forget(owner);
    this.#pages.forget(owner);
    for (const [name, entry] of this.#large) {
      if (!name.startsWith(`${owner}:`)) continue;
      this.#largeBytes -= entry.byteLength;
      this.#large.delete(name);
    }
  }

  #locate(owner: number, position: number, bytes: number): boolean {
    if (bytes > this.#pages.slotBytes) {
      const name = nameOf(owner, position);
      const entry = this.#large.get(name);
      if (entry === undefined) return false;
      this.#large.delete(name);
      this.#large.set(name, entry);
      this.bytes = entry;
      this.at = 0;
      return true;
    }
    const place = this.#slotsFor(bytes).find(owner, position);
    if (place < 0) return false;
    this.bytes = this.#slab;
    this.at = place;
    return true;
  }

  #slotsFor(bytes: number): Slots {
    return bytes <= SMALL_BYTES ? this.#small : this.#pages;
  }

  /** Keeps the newest entry whatever its size is. */
  #addLarge(name: string, entry: Uint8Array): void {
    this.#large.set(name, entry);
    this.#largeBytes += entry.byteLength;
    for (const [oldest, { byteLength }] of this.#large) {
      if (this.#largeBytes <= this.#largeMost || oldest === name) break;
      this.#large.delete(oldest);
      this.#largeBytes -= byteLength;
    }
    this.bytes = entry;
    this.at = 0;
  }
}

function nameOf(owner: number, position: number): string {
  return `${owner}:${position}`;
}

/** Slots of one size, which a hash table with linear probing finds. Owner 0 is a free slot's. */
class Slots {
  readonly #owners: Uint32Array;
  readonly #positions: Uint32Array;
  readonly #isReferenced: Uint8Array;
  /** Number of a slot, plus one; 0: none. */
  readonly #index: Uint32Array;
  readonly #mask: number;
  #hand = 0;

  constructor(
    private readonly at: number,
    readonly slotBytes: number,
    private readonly count: number,
  ) {
    let places = 4;
    while (places < 3 * count) places *= 2;
    this.#owners = new Uint32Array(count);
    this.#positions = new Uint32Array(count);
    this.#isReferenced = new Uint8Array(count);
    this.#index = new Uint32Array(places);
    this.#mask = places - 1;
  }

  /** Returns where the entry lies in the slab; -1: nowhere. */
  find(owner: number, position: number): number {
    const slot = this.#slotAt(this.#placeOf(owner, position));
    if (slot < 0) return -1;
    this.#isReferenced[slot] = 1;
    return this.at + slot * this.slotBytes;
  }

  add(owner: number, position: number): number {
    while (this.#isReferenced[this.#hand] === 1) {
      this.#isReferenced[this.#hand] = 0;
      this.#hand = (this.#hand + 1) % this.count;
    }
    const slot = this.#hand;
    this.#hand = (this.#hand + 1) % this.count;
    if (this.#owners[slot] !== 0) this.drop(this.#owners[slot]!, this.#positions[slot]!);
    this.#owners[slot] = owner;
    this.#positions[slot] = position;
    const place = this.#placeOf(owner, position);
    assert(this.#slotAt(place) < 0, "an entry is added to the cache once", { owner, position });
    this.#index[place] = slot + 1;
    return this.at + slot * this.slotBytes;
  }

  drop(owner: number, position: number): void {
    let hole = this.#placeOf(owner, position);
    const slot = this.#slotAt(hole);
    if (slot < 0) return;
    this.#owners[slot] = 0;
    this.#isReferenced[slot] = 0;
    // Entries behind the hole that their own place leads across move into it.
    for (let place = hole; ; ) {
      place = (place + 1) & this.#mask;
      const moved = this.#slotAt(place);
      if (moved < 0) break;
      const home = this.#homeOf(this.#owners[moved]!, this.#positions[moved]!);
      if (((place - home) & this.#mask) < ((place - hole) & this.#mask)) continue;
      this.#index[hole] = moved + 1;
      hole = place;
    }
    this.#index[hole] = 0;
  }

  forget(owner: number): void {
    for (let slot = 0; slot < this.count; slot++) {
      if (this.#owners[slot] === owner) this.drop(owner, this.#positions[slot]!);
    }
  }

  #slotAt(place: number): number {
    return this.#index[place]! - 1;
  }

  /** Returns the place in the index that holds the entry, or that would. */
  #placeOf(owner: number, position: number): number {
    for (let place = this.#homeOf(owner, position); ; place = (place + 1) & this.#mask) {
      const slot = this.#slotAt(place);
      if (slot < 0 || (this.#owners[slot] === owner && this.#positions[slot] === position)) return place;
    }
  }

  #homeOf(owner: number, position: number): number {
    const mixed = Math.imul(Math.imul(position, 0x9e3779b1) ^ owner, 0x85ebca6b);
    return (mixed ^ (mixed >>> 15)) & this.#mask;
  }
}
