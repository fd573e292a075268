import { type CounterLimit, counterProblem } from "../base/counters.js";
import { CairnError } from "../base/errors.js";
import type { Entry, EntryType, HardState } from "../raft/types.js";

// The protobuf messages cairn.v1.Entry and cairn.v1.HardState, written out by hand: one buffer
// takes a whole batch, nothing is allocated per entry. The bytes are those that protobuf-es writes,
// so that they can be shared with messages that carry entries.

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

/** Bytes of an entry when encoded. */
export function encodedEntryBytes(entry: Entry): number {
  const data = entry.data.byteLength;
  return fieldBytes(entry.index) + fieldBytes(entry.term) + 2 + fieldBytes(data) + data;
}

/** Encodes an entry at `at`; returns the position behind it. `buffer` has room. */
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
 * Throws CairnError CORRUPT when the bytes are no entry that this version knows.
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

/** Throws CairnError CORRUPT when the bytes are no hard state that this version knows. */
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

/** Bytes of a field with a one-byte tag and a number, which is left out when it is 0. */
export function fieldBytes(value: number): number {
  if (value === 0) return 0;
  let bytes = 2;
  while (value >= 0x80) {
    value = Math.floor(value / 0x80);
    bytes++;
  }
  return bytes;
}

/** Writes such a field at `at`; returns the position behind it. */
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

/** Throws CairnError CORRUPT for a number that no log of this cluster can have reached. */
export function checkCounter(what: string, value: number | bigint, limit: CounterLimit, least = 0): void {
  const problem = counterProblem(value, limit, least);
  if (problem !== undefined) throw undecodable(`the ${what} is ${problem}`);
}

function undecodable(text: string): CairnError {
  return new CairnError("CORRUPT", `${text}; were the bytes written by a newer version?`);
}
