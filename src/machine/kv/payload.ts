// Encodes the snapshot payload of the key-value machine. The payload is a pure function of the
// applied prefix, so that replicas at the same index write the same bytes: nothing local, no clock,
// no order but that of the bytes.
//
//   part      | bytes                  | field
//   ----------+------------------------+--------------------------------------------------------
//   preamble  | 7                      | "CAIRNKV"
//             | 1                      | format version: that of the rules for commands, 1 to 5
//             | 8, little-endian       | applied index
//             | 8, little-endian       | term of that entry; 0 at index 0
//   lease     | 1                      | 6. From version 4 on.
//   (each)    | varint                 | id, to the applied index; ids ascend
//             | varint                 | time to live in ms, leaseTtlMs to leaseTtlMsMax
//             | varint                 | number of keep-alives
//             | varint                 | number of its keys, to limits.leaseKeys
//   key       | 1                      | 1
//   (each)    | varint                 | length of the key, 1 to limits.keyBytes
//             | varint                 | create version, from 1
//             | varint                 | version, from the create version to the applied index
//             | varint                 | length of the value, to limits.valueBytes
//             |                        | the key, then the value. Keys ascend.
//   key with  | 1                      | 7. From version 4 on.
//   a lease   | varint                 | id of a lease above
//             |                        | then as a key
//   sessions' | 1                      | 5. Absent in version 1.
//   head      | varint                 | horizon: highest index at which a forgotten session
//             |                        | was last used; 0: no session is forgotten
//   session   | 1                      | 2
//   (each)    | varint                 | length of the client id, 1 to limits.clientIdBytes
//             | varint                 | floor: highest sequence whose answer is forgotten
//             | varint                 | last-used index, above the horizon, to the applied index
//             |                        | the client id in UTF-8. Client ids ascend by bytes.
//   answer    | 1                      | 3
//   (each, of | varint                 | sequence, above the floor; sequences of a session ascend
//   the last  | varint                 | length of the answer
//   session)  |                        | the answer: an encoded CommandResult
//   end mark  | 1                      | 4
//             | varint, varint, varint | number of keys, sessions, answers
//             | varint                 | number of leases. From version 4 on. Nothing follows.
//
// A varint has 7 bits a byte, lowest first, with the top bit set on all bytes but the last; at most
// 8 bytes (2^53 - 1) and no more than needed. All leases come before the keys, all keys before the
// sessions' head, and that comes before all sessions. From version 2 on an answer carries a value
// of at most sessionValueBytes, and all sessions together count for at most sessionBytes. The
// payload holds the applied index so that a snapshot with another index than its state's is refused
// (etcd#13973).

import { assertCount } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import type { LogPosition } from "../../raft/types.js";
import type { StoredLease } from "./leases/lease_store.js";
import type { KeyRecord } from "./record_store.js";
import { FIRST_HEAD, type SessionsHead, sessionRules } from "./session_limits.js";
import type { SessionHead } from "./sessions.js";

export const PAYLOAD_MAGIC = "CAIRNKV";
export const PAYLOAD_PREAMBLE_BYTES = 24;

/** First byte of each part after the preamble. */
export const partTag = { key: 1, session: 2, answer: 3, end: 4, sessionsHead: 5, lease: 6, leasedKey: 7 } as const;

/** Largest size of a part, without the bytes that it carries. */
const PART_HEADER_BYTES = 1 + 5 * 8;

/** A key from a payload source; its bytes are valid until the caller asks for the next. */
export interface PayloadKey extends KeyRecord {
  readonly key: Uint8Array;
}

export interface PayloadSession extends SessionHead {
  /** Ascending by sequence; bytes are valid until the caller asks for the next. */
  readonly answers: Iterable<PayloadAnswer>;
}

export interface PayloadAnswer {
  readonly sequence: number;
  readonly answer: Uint8Array;
}

/** A state at rest that can be written as a payload. */
export interface PayloadSource {
  readonly sessionsHead: SessionsHead;
  /** Ascending by id. None before version 4 of the rules. */
  leases(): Iterable<StoredLease>;
  /** Ascending by the bytes of the key. */
  keys(): Iterable<PayloadKey>;
  /**
   * Ascending by the bytes of the client id. Read each session's answers before asking for the next
   * session.
   */
  sessions(): Iterable<PayloadSession>;
}

/**
 * Yields the payload of a state at `at`, in pieces of at most limits.payloadPieceBytes, each valid
 * until the caller asks for the next.
 */
export function* encodePayload(at: LogPosition, source: PayloadSource): Generator<Uint8Array, void, undefined> {
  const block = new PayloadBlock();
  block.preamble(at, source.sessionsHead);
  const counts = { leases: 0, keys: 0, sessions: 0, answers: 0 };
  for (const lease of source.leases()) {
    counts.leases++;
    block.lease(lease);
    if (block.isFull) yield* block.take();
  }
  for (const key of source.keys()) {
    counts.keys++;
    block.key(key);
    if (block.isFull) yield* block.take();
  }
  block.sessionsHead(source.sessionsHead);
  for (const session of source.sessions()) {
    counts.sessions++;
    block.session(session);
    for (const { sequence, answer } of session.answers) {
      counts.answers++;
      block.answer(sequence, answer);
      if (block.isFull) yield* block.take();
    }
    if (block.isFull) yield* block.take();
  }
  block.end(counts, source.sessionsHead);
  yield* block.take();
}

/**
 * Yields the payload of a state with these keys, written at `at`, and no sessions, for a program
 * that makes a snapshot from its own data. Pairs ascend by key. Throws CairnError INVALID_ARGUMENT
 * or LIMIT_EXCEEDED.
 */
export function encodePairsPayload(
  pairs: Iterable<{ readonly key: Uint8Array; readonly value: Uint8Array }>,
  at: LogPosition,
): Generator<Uint8Array, void, undefined> {
  const keys = () => recordsOf(pairs, at.index);
  return encodePayload(at, { leases: () => [], keys, sessionsHead: FIRST_HEAD, sessions: () => [] });
}

function* recordsOf(
  pairs: Iterable<{ readonly key: Uint8Array; readonly value: Uint8Array }>,
  index: number,
): Generator<PayloadKey, void, undefined> {
  let before: Uint8Array | undefined;
  for (const { key, value } of pairs) {
    checkPair(key, value, before, index);
    yield { key, createVersion: index, version: index, value };
    before = key;
  }
}

function checkPair(key: Uint8Array, value: Uint8Array, before: Uint8Array | undefined, index: number): void {
  if (index < 1)
    throw new CairnError("INVALID_ARGUMENT", "a snapshot at index 0 holds no keys: give the index it is at");
  if (key.byteLength === 0) throw new CairnError("INVALID_ARGUMENT", "the key is empty: keys have at least one byte");
  if (before !== undefined && Buffer.compare(before, key) >= 0) {
    throw new CairnError("INVALID_ARGUMENT", "the pairs are not in ascending order of key: sort them, each key once");
  }
  if (key.byteLength > limits.keyBytes) {
    throw overLimit(
      "LIMIT_EXCEEDED",
      "keyBytes",
      `a key has ${key.byteLength} bytes; the limit keyBytes is ${limits.keyBytes}`,
    );
  }
  if (value.byteLength > limits.valueBytes) {
    throw overLimit(
      "LIMIT_EXCEEDED",
      "valueBytes",
      `a value has ${value.byteLength} bytes; the limit valueBytes is ${limits.valueBytes}`,
    );
  }
}

/** Numbers of the parts of a payload. */
interface PartCounts {
  readonly leases: number;
  readonly keys: number;
  readonly sessions: number;
  readonly answers: number;
}

/** Gathers outgoing bytes in one buffer, which is reused and grows to the largest part seen. */
class PayloadBlock {
  #bytes = Buffer.allocUnsafeSlow(limits.payloadPieceBytes + 4 * limits.keyBytes);
  #used = 0;

  get isFull(): boolean {
    return this.#used >= limits.payloadPieceBytes;
  }

  preamble({ index, term }: LogPosition, { rules }: SessionsHead): void {
    this.#reserve(PAYLOAD_PREAMBLE_BYTES);
    this.#used += this.#bytes.write(PAYLOAD_MAGIC, this.#used, "latin1");
    this.#used = this.#bytes.writeUInt8(rules, this.#used);
    this.#used = this.#bytes.writeBigUInt64LE(BigInt(index), this.#used);
    this.#used = this.#bytes.writeBigUInt64LE(BigInt(term), this.#used);
  }

  lease({ id, ttlMs, keepAlives, keys }: StoredLease): void {
    this.#reserve(PART_HEADER_BYTES);
    this.#byte(partTag.lease);
    this.#varint(id);
    this.#varint(ttlMs);
    this.#varint(keepAlives);
    this.#varint(keys);
  }

  key({ key, createVersion, version, value, lease }: PayloadKey): void {
    this.#reserve(PART_HEADER_BYTES + key.byteLength + value.byteLength);
    if (lease === undefined) this.#byte(partTag.key);
    else {
      this.#byte(partTag.leasedKey);
      this.#varint(lease);
    }
    this.#varint(key.byteLength);
    this.#varint(createVersion);
    this.#varint(version);
    this.#varint(value.byteLength);
    this.#append(key);
    this.#append(value);
  }

  sessionsHead({ rules, horizon }: SessionsHead): void {
    if (rules === sessionRules.counted) return;
    this.#reserve(PART_HEADER_BYTES);
    this.#byte(partTag.sessionsHead);
    this.#varint(horizon);
  }

  session({ clientId, floor, lastUsed }: SessionHead): void {
    const bytes = Buffer.byteLength(clientId);
    this.#reserve(PART_HEADER_BYTES + bytes);
    this.#byte(partTag.session);
    this.#varint(bytes);
    this.#varint(floor);
    this.#varint(lastUsed);
    this.#used += this.#bytes.write(clientId, this.#used, "utf8");
  }

  answer(sequence: number, answer: Uint8Array): void {
    this.#reserve(PART_HEADER_BYTES + answer.byteLength);
    this.#byte(partTag.answer);
    this.#varint(sequence);
    this.#varint(answer.byteLength);
    this.#append(answer);
  }

  end({ keys, sessions, answers, leases }: PartCounts, { rules }: SessionsHead): void {
    this.#reserve(PART_HEADER_BYTES);
    this.#byte(partTag.end);
    this.#varint(keys);
    this.#varint(sessions);
    this.#varint(answers);
    if (rules >= sessionRules.leased) this.#varint(leases);
  }

  /** Yields all bytes, and starts anew once they have been taken. */
  *take(): Generator<Uint8Array, void, undefined> {
    for (let from = 0; from < this.#used; from += limits.payloadPieceBytes) {
      yield this.#bytes.subarray(from, Math.min(from + limits.payloadPieceBytes, this.#used));
    }
    this.#used = 0;
  }

  #reserve(bytes: number): void {
    const needed = this.#used + bytes;
    if (needed <= this.#bytes.byteLength) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.byteLength * 2));
    this.#bytes.copy(larger, 0, 0, this.#used);
    this.#bytes = larger;
  }

  #byte(value: number): void {
    this.#bytes[this.#used++] = value;
  }

  #varint(value: number): void {
    assertCount(value, "varint");
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[this.#used++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[this.#used++] = rest;
  }

  #append(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#used);
    this.#used += bytes.byteLength;
  }
}
