import { randomBytes } from "node:crypto";

// Memory of tables: an arena of records and the slots of a hash table, both shared with the worker.

/** Memory of one table. */
export interface Arena {
  readonly buffer: SharedArrayBuffer;
  /** Pairs of 32-bit words: a key's hash, and the key's place in the arena. 0: free. */
  readonly slots: SharedArrayBuffer;
}

/** Slots, per key, that a new arena has. */
const SLOTS_PER_KEY = 2;
/** Size of a record from which the slots of a new arena are reckoned. */
const EXPECTED_RECORD_BYTES = 320;
const LEAST_SLOTS = 64;
/** Arenas kept for the next tables: that which fills, and that which is being written. */
const SPARE_ARENAS = 2;

/**
 * Reuses the memory of tables: the first touch of fresh memory costs more than the writing into it.
 * A new arena has twice the charge of a table reserved; the system supplies pages as they are used.
 */
export class ArenaPool {
  /**
   * Seed of the hash tables, a random one for each process: nothing that is stored depends on it.
   */
  readonly seed = randomBytes(4).readUInt32LE(0);
  readonly #bytes: number;
  readonly #spare: Arena[] = [];
  /** First bytes of keys that cursors asked for since a table of them began. */
  readonly #asked = new Set<number>();

  /** `flushBytes`: charge at which tables are closed. */
  constructor(flushBytes: number) {
    this.#bytes = 2 * flushBytes + (flushBytes >> 2);
  }

  /** Returns an arena whose slots are free. */
  take(): Arena {
    const spare = this.#spare.pop();
    if (spare === undefined) return this.#create();
    new Uint32Array(spare.slots).fill(0);
    return spare;
  }

  /** Takes an arena back that nothing reads any longer. */
  give(arena: Arena): void {
    const isUsual = arena.buffer.byteLength <= 2 * this.#bytes;
    if (isUsual && this.#spare.length < SPARE_ARENAS) this.#spare.push(arena);
  }

  /** Notes that a table was asked for the order of the keys that begin with this byte. */
  noteAsked(firstByte: number): void {
    this.#asked.add(firstByte);
  }

  /** Returns whether the last table was asked for that order, and forgets it. */
  takeAsked(firstByte: number): boolean {
    return this.#asked.delete(firstByte);
  }

  #create(): Arena {
    let slots = LEAST_SLOTS;
    while (slots * EXPECTED_RECORD_BYTES < SLOTS_PER_KEY * this.#bytes) slots *= 2;
    return { buffer: new SharedArrayBuffer((this.#bytes + 15) & ~7), slots: new SharedArrayBuffer(slots * 8) };
  }
}
