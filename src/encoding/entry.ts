import { type CounterLimit, counterProblem } from "../base/counters.js";
import { CairnError } from "../base/errors.js";
import type { Entry, EntryType, HardState } from "../raft/types.js";

// Encodes and decodes the protobuf messages cairn.v1.Entry and cairn.v1.HardState by hand: one
// buffer takes a whole batch, and nothing is allocated per entry. The bytes equal those of
// protobuf-es, so that messages that carry entries can share them.

const typeNumbers = { command: 1, "no-op": 2, configuration: 3 } as const satisfies Record<EntryType, number>;
const typesByNumber: readonly (EntryType | undefined)[] = [undefined, "command", "no-op", "configuration"];

// Field number and wire type of each field, as protobuf tags.
const ENTRY_INDEX = 0x08;
const ENTRY_TERM = 0x10;
const ENTRY_TYPE = 0x18;
const ENTRY_DATA = 0x22;
const HARD_STATE_TERM = 0x08;
const HARD_STATE_VOTE = 0x12;
const HARD_STATE_COMMIT = 0x18;

/** Returns the encoded size of an entry, in bytes. */
export function encodedEntryBytes(entry: Entry): number {
  const data = entry.data.byteLength;
  return fieldBytes(entry.index) + fieldBytes(entry.term) + 2 + fieldBytes(data) + data;
}

/**
 * Encodes an entry into `buffer` at `at`; returns the position after it. The caller provides enough
 * room.
 */
export function encodeEntry(entry: Entry, buffer: Uint8Array, at: number): number {
  at = putField(ENTRY_INDEX, entry.index, buffer, at);
  at = putField(ENTRY_TERM, entry.term, buffer, at);
  at = putField(ENTRY_TYPE, typeNumbers[entry.type], buffer, at);
  at = putField(ENTRY_DATA, entry.data.byteLength, buffer, at);
  buffer.set(entry.data, at);
  return at + entry.data.byteLength;
}

/**
 * Decodes an entry. Its data shares memory with `bytes`.
 * @throws CairnError CORRUPT when the bytes are not an entry that this version knows
 */
export function decodeEntry(bytes: Uint8Array): Entry {
  let index = 0;
  let term = 0;
  let type: EntryType | undefined;
  let data = bytes.subarray(0, 0);
  const cursor = new Cursor(bytes);
  while (!cursor.atEnd) {
    const tag = cursor.varint();
    if (tag === ENTRY_INDEX) index = cursor.varint();
    else if (tag === ENTRY_TERM) term = cursor.varint();
    else if (tag === ENTRY_TYPE) type = typesByNumber[cursor.varint()];
    else if (tag === ENTRY_DATA) data = cursor.bytes();
    else throw undecodable(`an entry has no field with tag ${tag}`);
  }
  if (type === undefined) throw undecodable("an entry without a known type");
  checkCounter("index", index, "indexMax", 1);
  checkCounter("term", term, "termMax");
  return { index, term, type, data };
}

export function encodeHardState(state: HardState): Uint8Array {
  const vote = Buffer.from(state.vote ?? "", "utf8");
  const buffer = new Uint8Array(30 + vote.byteLength);
  let at = 0;
  at = putField(HARD_STATE_TERM, state.term, buffer, at);
  at = putField(HARD_STATE_VOTE, vote.byteLength, buffer, at);
  buffer.set(vote, at);
  at = putField(HARD_STATE_COMMIT, state.commit, buffer, at + vote.byteLength);
  return buffer.subarray(0, at);
}

/**
 * Decodes a hard state. @throws CairnError CORRUPT when the bytes are not one that this version
 * knows
 */
export function decodeHardState(bytes: Uint8Array): HardState {
  let term = 0;
  let vote: string | undefined;
  let commit = 0;
  const cursor = new Cursor(bytes);
  while (!cursor.atEnd) {
    const tag = cursor.varint();
    if (tag === HARD_STATE_TERM) term = cursor.varint();
    else if (tag === HARD_STATE_VOTE) vote = Buffer.from(cursor.bytes()).toString("utf8");
    else if (tag === HARD_STATE_COMMIT) commit = cursor.varint();
    else throw undecodable(`a hard state has no field with tag ${tag}`);
  }
  checkCounter("term", term, "termMax");
  checkCounter("commit index", commit, "indexMax");
  return { term, vote, commit };
}

class Cursor {
  #at = 0;

  constructor(readonly from: Uint8Array) {}

  get atEnd(): boolean {
    return this.#at >= this.from.byteLength;
  }

  varint(): number {
    let value = 0;
    let weight = 1;
    for (;;) {
      const byte = this.from[this.#at++];
      if (byte === undefined) throw undecodable("a number is cut short");
      value += (byte & 0x7f) * weight;
      if (!Number.isSafeInteger(value)) throw undecodable("a number is above 2^53 - 1");
      if (byte < 0x80) return value;
      weight *= 0x80;
    }
  }

  bytes(): Uint8Array {
    const length = this.varint();
    const bytes = this.from.subarray(this.#at, this.#at + length);
    if (bytes.byteLength < length) throw undecodable("a field is cut short");
    this.#at += length;
    return bytes;
  }
}

/**
 * Returns the size of a field with a one-byte tag and a number, in bytes. A field of value 0 is
 * left out.
 */
export function fieldBytes(value: number): number {
  if (value === 0) return 0;
  let bytes = 2;
  while (value >= 0x80) {
    value = Math.floor(value / 0x80);
    bytes++;
  }
  return bytes;
}

/**
 * Writes a field with a one-byte tag and a number at `at`; returns the position after it. A field
 * of value 0 is left out.
 */
export function putField(tag: number, value: number, buffer: Uint8Array, at: number): number {
  if (value === 0) return at;
  buffer[at++] = tag;
  // Bitwise operators take 32 bits only.
  while (value > 0x7fffffff) {
    buffer[at++] = (value % 0x80) | 0x80;
    value = Math.floor(value / 0x80);
  }
  while (value >= 0x80) {
    buffer[at++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  buffer[at++] = value;
  return at;
}

/**
 * Checks a number. @throws CairnError CORRUPT for a number that no log of this cluster can have
 * reached
 */
export function checkCounter(what: string, value: number | bigint, limit: CounterLimit, least = 0): void {
  const problem = counterProblem(value, limit, least);
  if (problem !== undefined) throw undecodable(`the ${what} is ${problem}`);
}

function undecodable(text: string): CairnError {
  return new CairnError("CORRUPT", `${text}; were the bytes written by a newer version?`);
}
