import type { Transaction } from "lmdb";
import { assert } from "../core/invariants.js";
import type { LmdbTable } from "./lmdb_environment.js";
import type { PayloadAnswer, PayloadSession } from "./payload.js";
import type { SessionHead, SessionStore, StoredSession } from "./sessions.js";

// Rows of the two tables; numbers in keys are big-endian so that they sort:
//   sessions: client id in UTF-8                              -> floor, last-used index (doubles, little-endian)
//   answers:  length of the client id (2), client id,
//             sequence (8)                                    -> the answer
// The length in front keeps the answers of one client apart from those of another whose id starts the same.

const HEAD_BYTES = 16;
const LENGTH_BYTES = 2;
const SEQUENCE_BYTES = 8;

/** The tables of sessions and their answers. What writes must be within a transaction of its environment. */
export class LmdbSessions implements SessionStore {
  constructor(
    private readonly heads: LmdbTable,
    private readonly answers: LmdbTable,
  ) {}

  putSession({ clientId, floor, lastUsed }: SessionHead): void {
    const row = Buffer.allocUnsafe(HEAD_BYTES);
    row.writeDoubleLE(floor, 0);
    row.writeDoubleLE(lastUsed, 8);
    this.heads.putSync(Buffer.from(clientId), row);
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
  *stored(transaction: Transaction): Generator<StoredSession, void, undefined> {
    for (const head of this.#heads(transaction)) {
      const sequences: number[] = [];
      const start = answerKey(head.clientId, 0);
      const end = answerKey(head.clientId, Number.MAX_SAFE_INTEGER);
      for (const key of this.answers.getKeys({ start, end, inclusiveEnd: true, transaction })) {
        sequences.push(sequenceOf(key as Buffer));
      }
      yield { ...head, sequences };
    }
  }

  /** All sessions with their answers, as the transaction sees them, in the order of a payload. */
  *entries(transaction: Transaction): Generator<PayloadSession, void, undefined> {
    for (const head of this.#heads(transaction))
      yield { ...head, answers: this.#answersOf(head.clientId, transaction) };
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
