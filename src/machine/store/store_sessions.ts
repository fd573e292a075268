import { assert } from "../../base/assert.js";
import type { StoreEngine } from "../../store/reads.js";
import type { SessionsHead } from "../kv/session_limits.js";
import type { SessionHead, SessionStore, StoredSession, StoredSessions } from "../kv/sessions.js";
import { answerKeyOf, decodeNote, encodeNote, keyspace, RowEncoder, sessionOf, spaceStart } from "./keyspaces.js";

/**
 * The sessions of a machine in its store. Answers are written when they are given, heads at the
 * flush point.
 */
export class StoreSessions implements SessionStore {
  /** Births of the sessions, and whether their heads have a row in the store. */
  readonly #sessions = new Map<string, { readonly birth: number; isStored: boolean }>();
  readonly #rows = new RowEncoder();
  #head: SessionsHead;
  #index = 0;

  constructor(private readonly engine: StoreEngine) {
    this.#head = decodeNote(engine.note);
  }

  /** Begins the changes of an entry. */
  begin(index: number): void {
    this.#index = index;
  }

  /** The bytes to be noted at a flush point. */
  get note(): Uint8Array {
    return encodeNote(this.#head);
  }

  /** Reads all sessions that the store holds, to fill a table with. Called once. */
  load(): StoredSessions {
    const byBirth = new Map<number, StoredSession>();
    for (const row of this.engine.range(spaceStart(keyspace.session), spaceStart(keyspace.answer))) {
      const { clientId, birth, floor, lastUsed } = sessionOf(row);
      byBirth.set(birth, { clientId, floor, lastUsed, sequences: [], sizes: [] });
      this.#sessions.set(clientId, { birth, isStored: true });
    }
    for (const row of this.engine.range(spaceStart(keyspace.answer), spaceStart(keyspace.answer + 1))) {
      const { birth, sequence } = answerKeyOf(row);
      const session = byBirth.get(birth);
      assert(session !== undefined, "an answer has a session", { birth, sequence });
      session.sequences.push(sequence);
      session.sizes.push(row.value.byteLength);
    }
    return { head: this.#head, sessions: byBirth.values() };
  }

  /** Returns the birth of a session, which must exist. */
  birthOf(clientId: string): number {
    return this.#session(clientId).birth;
  }

  /** Returns the key of an answer's row, for the caller to keep. */
  answerKey(clientId: string, sequence: number): Uint8Array {
    return Uint8Array.prototype.slice.call(this.#rows.answer(this.birthOf(clientId), sequence));
  }

  putSessionsHead(head: SessionsHead): void {
    this.#head = head;
  }

  putSession({ clientId, floor, lastUsed }: SessionHead): void {
    const session = this.#session(clientId);
    const { birth } = session;
    this.engine.put(this.#rows.session(clientId), this.#rows.numbers(birth, floor, lastUsed), this.#index, birth, 0);
    session.isStored = true;
  }

  deleteSession(clientId: string, sequences: readonly number[]): void {
    const { birth, isStored } = this.#session(clientId);
    this.#sessions.delete(clientId);
    if (isStored) this.engine.delete(this.#rows.session(clientId), this.#index);
    this.#deleteAnswers(birth, sequences);
  }

  getAnswer(clientId: string, sequence: number): Uint8Array | undefined {
    return this.engine.get(this.#rows.answer(this.birthOf(clientId), sequence))?.value;
  }

  putAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    // The entry that makes a session also gives its first answer.
    let session = this.#sessions.get(clientId);
    if (session === undefined) {
      session = { birth: this.#index, isStored: false };
      this.#sessions.set(clientId, session);
    }
    this.engine.putOnly(this.#rows.answer(session.birth, sequence), answer, this.#index, this.#index, 0);
  }

  replaceAnswer(clientId: string, sequence: number, answer: Uint8Array): void {
    this.engine.put(this.#rows.answer(this.birthOf(clientId), sequence), answer, this.#index, this.#index, 0);
  }

  deleteAnswersThrough(clientId: string, _sequence: number, forgotten: readonly number[]): void {
    if (forgotten.length > 0) this.#deleteAnswers(this.birthOf(clientId), forgotten);
  }

  #deleteAnswers(birth: number, sequences: readonly number[]): void {
    for (const sequence of sequences) this.engine.delete(this.#rows.answer(birth, sequence), this.#index);
  }

  #session(clientId: string) {
    const session = this.#sessions.get(clientId);
    assert(session !== undefined, "a session has had an answer", { clientId });
    return session;
  }
}
