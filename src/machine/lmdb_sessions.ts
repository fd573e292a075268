import type { Transaction } from "lmdb";
import { assert } from "../core/invariants.js";
import type { LmdbTable } from "./lmdb_environment.js";
import type { PayloadAnswer, PayloadSession } from "./payload.js";
import { FIRST_HEAD, type SessionsHead, sessionRules } from "./session_limits.js";
import type { SessionHead, SessionStore, StoredSession, StoredSessions } from "./sessions.js";

// Rows of the three tables; numbers in keys are big-endian so that they sort:
//   sessions: client id in UTF-8                              -> floor, last-used index (doubles, little-endian)
//   meta:     "sessions"                                      -> rules, horizon (doubles, little-endian); none in a new state
//   answers:  length of the client id (2), client id,
//             sequence (8)                                    -> the answer
// The length in front keeps the answers of one client apart from those of another whose id starts the same.

const SESSIONS_KEY = Buffer.from("sessions");
const HEAD_BYTES = 16;
const LENGTH_BYTES = 2;
const SEQUENCE_BYTES = 8;

/** The tables of sessions and their answers. What writes must be within a transaction of its environment. */
export class LmdbSessions implements SessionStore {
  constructor(
    private readonly heads: LmdbTable,
    private readonly answers: LmdbTable,
    private readonly meta: LmdbTable,
  ) {}

  putSessionsHead({ rules, horizon }: SessionsHead): void {
    this.meta.putSync(SESSIONS_KEY, rowOf(rules, horizon));
  }

  putSession({ clientId, floor, lastUsed }: SessionHead): void {
    this.heads.putSync(Buffer.from(clientId), rowOf(floor, lastUsed));
  }

  deleteSession(clientId: string): void {
    this.heads.removeSync(Buffer.from(clientId));
  }

  getAnswer(clientId: string, sequence: number): Uint8Array | undefined {
    return this.answers.getBinary(answerKey(clientId, sequence));
  }

  putAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    this.answers.putSync(answerKey(clientId, sequence), answer as Buffer);
  }

  deleteAnswer(clientId: string, sequence: number): void {
    this.answers.removeSync(answerKey(clientId, sequence));
  }

  /** All sessions, as the transaction sees them, to fill a session table with. */
  stored(transaction: Transaction): StoredSessions {
    return { head: this.head(transaction), sessions: this.#storedSessions(transaction) };
  }

  head(transaction: Transaction): SessionsHead {
    const row = this.meta.get(SESSIONS_KEY, { transaction });
    if (row === undefined) return FIRST_HEAD;
    const rules = Object.values(sessionRules).find((known) => known === row.readDoubleLE(0));
    assert(rules !== undefined, "the rules of the sessions are known", { rules: row.readDoubleLE(0) });
    return { rules, horizon: row.readDoubleLE(8) };
  }

  /** All sessions with their answers, as the transaction sees them, in the order of a payload. */
  *entries(transaction: Transaction): Generator<PayloadSession, void, undefined> {
    for (const head of this.#heads(transaction))
      yield { ...head, answers: this.#answersOf(head.clientId, transaction) };
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

  *#heads(transaction: Transaction): Generator<SessionHead, void, undefined> {
    for (const { key, value: row } of this.heads.getRange({ transaction })) {
      assert(row.byteLength === HEAD_BYTES, "a session's row has its size", { bytes: row.byteLength });
      yield { clientId: UTF_8.decode(key), floor: row.readDoubleLE(0), lastUsed: row.readDoubleLE(8) };
    }
  }

  *#answersOf(clientId: string, transaction: Transaction): Generator<PayloadAnswer, void, undefined> {
    const start = answerKey(clientId, 0);
    const end = answerKey(clientId, Number.MAX_SAFE_INTEGER);
    for (const { key, value: answer } of this.answers.getRange({ start, end, inclusiveEnd: true, transaction })) {
      yield { sequence: sequenceOf(key as Buffer), answer };
    }
  }
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function rowOf(first: number, second: number): Buffer {
  const row = Buffer.allocUnsafe(HEAD_BYTES);
  row.writeDoubleLE(first, 0);
  row.writeDoubleLE(second, 8);
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
