import type { Transaction } from "lmdb";
import type { PayloadAnswer, PayloadSession } from "../kv/payload.js";
import { FIRST_HEAD, type SessionsHead, sessionRules } from "../kv/session_limits.js";
import type { SessionHead, SessionStore, StoredSession, StoredSessions } from "../kv/sessions.js";
import { CHECKSUM_BYTES, type StateDigest } from "./checksums.js";
import type { SealedTable } from "./table.js";

// Stores sessions in two tables, each row behind its checksum. Numbers in keys are big-endian so
// that they sort:
//
//   sessions: client id in UTF-8            -> floor, last-used index (doubles, little-endian)
//             0xff, which begins no text    -> rules, horizon (doubles, little-endian); absent
//                                              in a new state
//   answers:  length of the client id (2), client id,
//             sequence (8)                  -> the answer
//
// The length in front keeps the answers of one client apart from those of another whose id starts
// the same.

const ALL_SESSIONS_KEY = Buffer.from([0xff]);
const FIRST_AT = CHECKSUM_BYTES;
const SECOND_AT = FIRST_AT + 8;
const HEAD_BYTES = SECOND_AT + 8;
const LENGTH_BYTES = 2;
const SEQUENCE_BYTES = 8;

/**
 * The tables of sessions and their answers. Writes must be within a transaction of its environment.
 */
export class LmdbSessions implements SessionStore {
  constructor(
    private readonly heads: SealedTable,
    private readonly answers: SealedTable,
  ) {}

  putSessionsHead({ rules, horizon }: SessionsHead): void {
    this.heads.put(ALL_SESSIONS_KEY, rowOf(rules, horizon));
  }

  putSession({ clientId, floor, lastUsed }: SessionHead): void {
    this.heads.put(Buffer.from(clientId), rowOf(floor, lastUsed));
  }

  deleteSession(clientId: string): void {
    this.heads.delete(Buffer.from(clientId));
  }

  getAnswer(clientId: string, sequence: number): Uint8Array | undefined {
    return this.answers.getCopy(answerKey(clientId, sequence))?.subarray(CHECKSUM_BYTES);
  }

  putAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    const row = Buffer.allocUnsafe(CHECKSUM_BYTES + answer.byteLength);
    row.set(answer, CHECKSUM_BYTES);
    this.answers.add(answerKey(clientId, sequence), row);
  }

  deleteAnswer(clientId: string, sequence: number): void {
    this.answers.remove(answerKey(clientId, sequence));
  }

  /** Returns all sessions, as the transaction sees them, to fill a session table with. */
  stored(transaction: Transaction): StoredSessions {
    return { head: this.head(transaction), sessions: this.#storedSessions(transaction) };
  }

  /** Returns the data about all sessions together. Throws CairnError CORRUPT. */
  head(transaction: Transaction): SessionsHead {
    const row = this.heads.getCopy(ALL_SESSIONS_KEY, transaction);
    if (row === undefined) return FIRST_HEAD;
    const rules = Object.values(sessionRules).find((known) => known === row.readDoubleLE(FIRST_AT));
    if (rules === undefined) throw this.heads.damaged("the rules of the sessions are unknown to this version");
    return { rules, horizon: row.readDoubleLE(SECOND_AT) };
  }

  /**
   * Yields all sessions with their answers, as the transaction sees them, in the order of a
   * payload. `walked` counts each row.
   */
  *entries(transaction: Transaction, walked?: StateDigest): Generator<PayloadSession, void> {
    for (const head of this.#heads(transaction, walked)) {
      yield { ...head, answers: this.#answersOf(head.clientId, transaction, walked) };
    }
  }

  *#storedSessions(transaction: Transaction): Generator<StoredSession, void, undefined> {
    for (const head of this.#heads(transaction)) {
      const sequences: number[] = [];
      const sizes: number[] = [];
      for (const { sequence, answer } of this.#answersOf(head.clientId, transaction)) {
        sequences.push(sequence);
        sizes.push(answer.byteLength);
      }
      yield { ...head, sequences, sizes };
    }
  }

  *#heads(transaction: Transaction, walked?: StateDigest): Generator<SessionHead, void, undefined> {
    try {
      for (const { key, value: row } of this.heads.range({ transaction })) {
        const mark = this.heads.verify(key, row);
        walked?.sessions.add(mark);
        if (row.byteLength !== HEAD_BYTES) throw this.heads.damaged("a row has the wrong size");
        if (key.equals(ALL_SESSIONS_KEY)) continue;
        const [floor, lastUsed] = [row.readDoubleLE(FIRST_AT), row.readDoubleLE(SECOND_AT)];
        yield { clientId: UTF_8.decode(key), floor, lastUsed };
      }
    } catch (error) {
      throw this.heads.failure(error);
    }
  }

  *#answersOf(
    clientId: string,
    transaction: Transaction,
    walked?: StateDigest,
  ): Generator<PayloadAnswer, void, undefined> {
    const start = answerKey(clientId, 0);
    const end = answerKey(clientId, Number.MAX_SAFE_INTEGER);
    try {
      for (const { key, value: row } of this.answers.range({ start, end, inclusiveEnd: true, transaction })) {
        this.answers.verify(key, row);
        walked?.answers.add(this.answers.keyMark(key));
        yield { sequence: sequenceOf(key), answer: row.subarray(CHECKSUM_BYTES) };
      }
    } catch (error) {
      throw this.answers.failure(error);
    }
  }
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function rowOf(first: number, second: number): Buffer {
  const row = Buffer.allocUnsafe(HEAD_BYTES);
  row.writeDoubleLE(first, FIRST_AT);
  row.writeDoubleLE(second, SECOND_AT);
  return row;
}

function answerKey(clientId: string, sequence: number): Buffer {
  const length = Buffer.byteLength(clientId);
  const key = Buffer.allocUnsafe(LENGTH_BYTES + length + SEQUENCE_BYTES);
  key.writeUInt16BE(length, 0);
  key.write(clientId, LENGTH_BYTES, "utf8");
  key.writeUInt32BE(Math.floor(sequence / 2 ** 32), LENGTH_BYTES + length);
  key.writeUInt32BE(sequence % 2 ** 32, LENGTH_BYTES + length + 4);
  return key;
}

function sequenceOf(key: Buffer): number {
  const at = key.byteLength - SEQUENCE_BYTES;
  return key.readUInt32BE(at) * 2 ** 32 + key.readUInt32BE(at + 4);
}
