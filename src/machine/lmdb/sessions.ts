import type { Transaction } from "lmdb";
import type { PayloadSession } from "../kv/payload.js";
import { FIRST_HEAD, type SessionsHead, sessionRules } from "../kv/session_limits.js";
import type { SessionHead, SessionStore, StoredSession, StoredSessions } from "../kv/sessions.js";
import type { AnswerRows } from "./answer_rows.js";
import { CHECKSUM_BYTES, type StateDigest } from "./checksums.js";
import type { SealedTable } from "./table.js";

// Stores the heads of sessions, each row behind its checksum; the answers are in rows of their own.
//
//   sessions: client id in UTF-8            -> floor, last-used index (doubles, little-endian)
//             0xff, which begins no text    -> rules, horizon (doubles, little-endian); absent
//                                              in a new state

const ALL_SESSIONS_KEY = Buffer.from([0xff]);
const FIRST_AT = CHECKSUM_BYTES;
const SECOND_AT = FIRST_AT + 8;
const HEAD_BYTES = SECOND_AT + 8;

/**
 * The tables of sessions and their answers. Writes must be within a transaction of its environment.
 */
export class LmdbSessions implements SessionStore {
  constructor(
    private readonly heads: SealedTable,
    private readonly answers: AnswerRows,
  ) {}

  putSessionsHead({ rules, horizon }: SessionsHead): void {
    this.heads.put(ALL_SESSIONS_KEY, rowOf(rules, horizon));
  }

  putSession({ clientId, floor, lastUsed }: SessionHead): void {
    this.heads.put(Buffer.from(clientId), rowOf(floor, lastUsed));
    this.answers.write(clientId, floor);
  }

  deleteSession(clientId: string): void {
    this.heads.delete(Buffer.from(clientId));
    this.answers.delete(clientId);
  }

  getAnswer(clientId: string, sequence: number): Uint8Array | undefined {
    return this.answers.get(clientId, sequence);
  }

  putAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    this.answers.put(clientId, sequence, answer);
  }

  replaceAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    this.putAnswer(clientId, sequence, answer);
  }

  deleteAnswersThrough(clientId: string, sequence: number): void {
    this.answers.forgetThrough(clientId, sequence);
  }

  /** Returns all sessions, as the transaction sees them, to fill a session table with. */
  stored(transaction: Transaction): StoredSessions {
    this.answers.reset();
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
      yield { ...head, answers: this.answers.answersOf(head.clientId, head.floor, transaction, { walked }) };
    }
  }

  *#storedSessions(transaction: Transaction): Generator<StoredSession, void, undefined> {
    for (const head of this.#heads(transaction)) {
      const answers = this.answers.answersOf(head.clientId, head.floor, transaction, { remembers: true });
      const sequences = answers.map(({ sequence }) => sequence);
      yield { ...head, sequences, sizes: answers.map(({ answer }) => answer.byteLength) };
    }
  }

  *#heads(transaction: Transaction, walked?: StateDigest): Generator<SessionHead, void, undefined> {
    const heads = this.heads.rows({ transaction }, (key, row, mark) => {
      walked?.sessions.add(mark);
      if (row.byteLength !== HEAD_BYTES) throw this.heads.damaged("a row has the wrong size");
      if (key.equals(ALL_SESSIONS_KEY)) return undefined;
      return { clientId: UTF_8.decode(key), floor: row.readDoubleLE(FIRST_AT), lastUsed: row.readDoubleLE(SECOND_AT) };
    });
    for (const head of heads) if (head !== undefined) yield head;
  }
}

const UTF_8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function rowOf(first: number, second: number): Buffer {
  const row = Buffer.allocUnsafe(HEAD_BYTES);
  row.writeDoubleLE(first, FIRST_AT);
  row.writeDoubleLE(second, SECOND_AT);
  return row;
}
