import type { Transaction } from "lmdb";
import { CHECKSUM_BYTES, type StateDigest } from "./lmdb_checksums.js";
import type { SealedTable } from "./lmdb_table.js";
import type { PayloadAnswer, PayloadSession } from "./payload.js";
import type { SessionHead, SessionStore, StoredSession } from "./sessions.js";

// Rows of the two tables, each behind its checksum; numbers in keys are big-endian so that they
// sort:
//   sessions: client id in UTF-8                              -> floor, last-used index (doubles, little-endian)
//   answers:  length of the client id (2), client id,
//             sequence (8)                                    -> the answer
// The length in front keeps the answers of one client apart from those of another whose id starts
// the same.

const FLOOR_AT = CHECKSUM_BYTES;
const LAST_USED_AT = FLOOR_AT + 8;
const HEAD_BYTES = LAST_USED_AT + 8;
const LENGTH_BYTES = 2;
const SEQUENCE_BYTES = 8;

/**
 * The tables of sessions and their answers. What writes must be within a transaction of its
 * environment.
 */
export class LmdbSessions implements SessionStore {
  constructor(
    private readonly heads: SealedTable,
    private readonly answers: SealedTable,
  ) {}

  putSession({ clientId, floor, lastUsed }: SessionHead): void {
    const row = Buffer.allocUnsafe(HEAD_BYTES);
    row.writeDoubleLE(floor, FLOOR_AT);
    row.writeDoubleLE(lastUsed, LAST_USED_AT);
    this.heads.put(Buffer.from(clientId), row);
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

  /** All sessions, as the transaction sees them, to fill a session table with. */
  *stored(transaction: Transaction): Generator<StoredSession, void, undefined> {
    for (const head of this.#heads(transaction)) {
      const sequences: number[] = [];
      for (const { sequence } of this.#answersOf(head.clientId, transaction)) sequences.push(sequence);
      yield { ...head, sequences };
    }
  }

  /**
   * All sessions with their answers, as the transaction sees them, in the order of a payload.
   * `walked` is told of each row.
   */
  *entries(transaction: Transaction, walked?: StateDigest): Generator<PayloadSession, void, undefined> {
    for (const head of this.#heads(transaction, walked)) {
      yield { ...head, answers: this.#answersOf(head.clientId, transaction, walked) };
    }
  }

  *#heads(transaction: Transaction, walked?: StateDigest): Generator<SessionHead, void, undefined> {
    try {
      for (const { key, value: row } of this.heads.range({ transaction })) {
        const mark = this.heads.verify(key, row);
        walked?.sessions.add(mark);
        if (row.byteLength !== HEAD_BYTES) throw this.heads.damaged("a row has not its size");
        const [floor, lastUsed] = [row.readDoubleLE(FLOOR_AT), row.readDoubleLE(LAST_USED_AT)];
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
