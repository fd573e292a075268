import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { LiveRecord } from "../../store/reads.js";
import type { StoredLease } from "../kv/leases/lease_store.js";
import type { KeyRecord } from "../kv/record_store.js";
import { FIRST_HEAD, type SessionsHead, sessionRules } from "../kv/session_limits.js";

// The rows of the key-value machine in its store. Numbers are big-endian in keys, little-endian
// doubles in values.
//
//   first byte, then                      -> value
//   1 lease: id (8)                          time to live in ms, keep-alives, number of keys
//   2 key of a lease: id (8), key            nothing
//   3 key                                    the value; with tag 1: the lease, then the value
//   4 session: client id in UTF-8            birth, floor, last-used index
//   5 answer: birth (8), sequence (8)        the answer
//
// The birth of a session is the index of the entry that made it, or its rank in the snapshot that
// it came with, so no two sessions have the same, and an answer's key is never used again.
//
// The note of a flush point: 1, the rules of the sessions (1 byte), their horizon (double).

/** First bytes of the rows' keys. The numbers are on disk. */
export const keyspace = { lease: 1, leaseKey: 2, key: 3, session: 4, answer: 5 } as const;

/** Tag of a key's record whose value begins with a lease. */
const LEASED_TAG = 1;
const NUMBER_BYTES = 8;
const NOTE_BYTES = 2 + NUMBER_BYTES;
const NOTE_FORMAT = 1;

/** Bytes that a row counts for while it waits for the flush point. */
export const WAITING_ROW_BYTES = 128;

/** Returns the first key of a keyspace, which is also the end of the one before. */
export function spaceStart(space: number): Uint8Array {
  return Buffer.of(space);
}

/** Encodes the keys and values of rows. Each buffer is valid until the next call. */
export class RowEncoder {
  // Not a Buffer, whose parts take several times as long to make.
  readonly #key = new Uint8Array(1 + NUMBER_BYTES + limits.keyBytes);
  readonly #row = Buffer.allocUnsafeSlow(3 * NUMBER_BYTES);
  #value = Buffer.allocUnsafeSlow(4096);

  key(key: Uint8Array): Uint8Array {
    this.#key[0] = keyspace.key;
    this.#key.set(key, 1);
    return this.#key.subarray(0, 1 + key.byteLength);
  }

  lease(id: number): Uint8Array {
    this.#key[0] = keyspace.lease;
    return this.#key.subarray(0, this.#number(id, 1));
  }

  leaseKey(id: number, key: Uint8Array): Uint8Array {
    this.#key[0] = keyspace.leaseKey;
    const at = this.#number(id, 1);
    this.#key.set(key, at);
    return this.#key.subarray(0, at + key.byteLength);
  }

  session(clientId: string): Uint8Array {
    this.#key[0] = keyspace.session;
    return this.#key.subarray(0, 1 + Buffer.from(this.#key.buffer).write(clientId, 1, "utf8"));
  }

  answer(birth: number, sequence: number): Uint8Array {
    this.#key[0] = keyspace.answer;
    return this.#key.subarray(0, this.#number(sequence, this.#number(birth, 1)));
  }

  /** Returns the value of a row of up to three numbers. */
  numbers(first: number, second: number, third: number): Uint8Array {
    this.#row.writeDoubleLE(first, 0);
    this.#row.writeDoubleLE(second, NUMBER_BYTES);
    this.#row.writeDoubleLE(third, 2 * NUMBER_BYTES);
    return this.#row;
  }

  /** Returns the value of a key's row. */
  valueOf({ value, lease }: Pick<KeyRecord, "value" | "lease">): Uint8Array {
    if (lease === undefined) return value;
    const bytes = NUMBER_BYTES + value.byteLength;
    if (bytes > this.#value.byteLength) this.#value = Buffer.allocUnsafeSlow(2 * bytes);
    this.#value.writeDoubleLE(lease, 0);
    this.#value.set(value, NUMBER_BYTES);
    return this.#value.subarray(0, bytes);
  }

  #number(value: number, at: number): number {
    this.#word(Math.floor(value / 2 ** 32), at);
    this.#word(value % 2 ** 32, at + 4);
    return at + NUMBER_BYTES;
  }

  #word(value: number, at: number): void {
    this.#key[at] = value >>> 24;
    this.#key[at + 1] = value >>> 16;
    this.#key[at + 2] = value >>> 8;
    this.#key[at + 3] = value;
  }
}

/** Returns the tag of a key's row. */
export function tagOf(lease: number | undefined): number {
  return lease === undefined ? 0 : LEASED_TAG;
}

/** Returns the record of a key's row; its value is lent as the row is. */
export function recordOf({ tag, version, created, value }: LiveRecord): KeyRecord {
  if (tag === 0) return { createVersion: created, version, value };
  if (tag !== LEASED_TAG || value.byteLength < NUMBER_BYTES) throw malformed("key");
  const lease = numberIn(value, 0);
  return { createVersion: created, version, value: value.subarray(NUMBER_BYTES), lease };
}

export function leaseOf({ key, value }: LiveRecord): StoredLease {
  checkRow(key, value, 1 + NUMBER_BYTES, "lease");
  return {
    id: numberInKey(key, 1),
    ttlMs: numberIn(value, 0),
    keepAlives: numberIn(value, 1),
    keys: numberIn(value, 2),
  };
}

/** Returns a key of a lease. The key's bytes are lent. */
export function leaseKeyOf({ key }: LiveRecord): { readonly id: number; readonly key: Uint8Array } {
  return { id: numberInKey(key, 1), key: key.subarray(1 + NUMBER_BYTES) };
}

/** A session as its row has it. */
export interface SessionRow {
  readonly clientId: string;
  readonly birth: number;
  readonly floor: number;
  readonly lastUsed: number;
}

export function sessionOf({ key, value }: LiveRecord): SessionRow {
  checkRow(key, value, key.byteLength, "session");
  const clientId = UTF_8.decode(key.subarray(1));
  return { clientId, birth: numberIn(value, 0), floor: numberIn(value, 1), lastUsed: numberIn(value, 2) };
}

export function answerKeyOf({ key }: LiveRecord): { readonly birth: number; readonly sequence: number } {
  if (key.byteLength !== 1 + 2 * NUMBER_BYTES) throw malformed("answer");
  return { birth: numberInKey(key, 1), sequence: numberInKey(key, 1 + NUMBER_BYTES) };
}

export function encodeNote({ rules, horizon }: SessionsHead): Uint8Array {
  const note = Buffer.alloc(NOTE_BYTES);
  note[0] = NOTE_FORMAT;
  note[1] = rules;
  note.writeDoubleLE(horizon, 2);
  return note;
}

/** @throws CairnError CORRUPT */
export function decodeNote(bytes: Uint8Array): SessionsHead {
  if (bytes.byteLength === 0) return FIRST_HEAD;
  const note = Buffer.from(bytes);
  const rules = Object.values(sessionRules).find((known) => known === note[1]);
  if (note.byteLength !== NOTE_BYTES || note[0] !== NOTE_FORMAT || rules === undefined) throw malformed("note");
  return { rules, horizon: note.readDoubleLE(2) };
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function checkRow(key: Uint8Array, value: Uint8Array, keyBytes: number, what: keyof typeof keyspace): void {
  if (key.byteLength !== keyBytes || value.byteLength !== 3 * NUMBER_BYTES) throw malformed(what);
}

function numberIn({ buffer, byteOffset, byteLength }: Uint8Array, at: number): number {
  return new DataView(buffer, byteOffset, byteLength).getFloat64(NUMBER_BYTES * at, true);
}

function numberInKey({ buffer, byteOffset, byteLength }: Uint8Array, at: number): number {
  const view = new DataView(buffer, byteOffset, byteLength);
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
}

function malformed(what: keyof typeof keyspace | "note"): CairnError {
  return new CairnError("CORRUPT", `a row of the store is malformed (${what}): the state must be rebuilt`);
}
