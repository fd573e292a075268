import { CommandOutcome, type CommandResult, type RequestId } from "../../../gen/cairn/v1/storage_pb.js";
import { assert } from "../../base/assert.js";
import { commandResult, decodeResult, encodeResult } from "./command.js";
import {
  answerBytes,
  answersMax,
  encodedAnswerBytesMax,
  FIRST_HEAD,
  largestSessionBytes,
  NEWEST_RULES,
  type SessionLimits,
  type SessionRules,
  type SessionsHead,
  sessionBytes,
  sessionRules,
} from "./session_limits.js";
import { rememberedResult } from "./txn/remembered.js";

// Remembers the answers to clients, so that a retried write takes effect once.

/** Data remembered of a client, apart from its answers. */
export interface SessionHead {
  readonly clientId: string;
  /** Highest sequence whose answer is forgotten; 0 when there is none. */
  readonly floor: number;
  /** Index of the last entry that named the session, retries included. */
  readonly lastUsed: number;
}

/** Stores sessions. The table above it decides which ones are kept. */
export interface SessionStore {
  putSessionsHead(head: SessionsHead): void;
  /** Stores a session's head, and the answers that were put since the last call. */
  putSession(head: SessionHead): void;
  /** Deletes a session and its answers, of which these are the sequences. */
  deleteSession(clientId: string, sequences: readonly number[]): void;
  /** Returns the answer's bytes, which may be valid only until the next call. */
  getAnswer(clientId: string, sequence: number): Uint8Array | undefined;
  /** Puts an answer of a sequence that has none. {@link putSession} follows. */
  putAnswer(clientId: string, sequence: number, answer: Uint8Array): void;
  /** Puts an answer in place of an earlier one. {@link putSession} follows. */
  replaceAnswer(clientId: string, sequence: number, answer: Uint8Array): void;
  /**
   * Deletes the answers up to this sequence, which are those of `forgotten`. A store may keep some
   * of them for a while.
   */
  deleteAnswersThrough(clientId: string, sequence: number, forgotten: readonly number[]): void;
}

/** A session as it is read back from its store. */
export interface StoredSession extends SessionHead {
  /** Sequences of the remembered answers, ascending. */
  readonly sequences: number[];
  /** Encoded size of each of them. */
  readonly sizes: number[];
}

/** All sessions as they are read back. */
export interface StoredSessions {
  readonly head: SessionsHead;
  readonly sessions: Iterable<StoredSession>;
}

interface Session {
  readonly clientId: string;
  floor: number;
  lastUsed: number;
  readonly sequences: number[];
  readonly sizes: number[];
}

/**
 * The table of client sessions, which makes retries exactly-once (thesis section 6.3). It is
 * replicated state: its behaviour is a function of the entries alone. Answers stay in the store;
 * only their sequences and sizes are in memory.
 *
 * Sessions are forgotten in the order of their last use, so `lastUsed` of every session is above
 * the horizon. Only a request whose `since` is below its own index and not below the horizon makes
 * a session. When that session is forgotten, it was last used above its `since`, and the horizon
 * rises to that use: the same client id can never be taken for a new one again.
 */
export class SessionTable {
  /** In order of last use, oldest first. */
  readonly #sessions = new Map<string, Session>();
  /** Sessions whose head has changed since the last flush. */
  readonly #changed = new Set<Session>();
  #rules: SessionRules;
  #horizon: number;
  #hasNewHead = false;
  /** Bytes of all sessions, as the limit counts them. */
  #bytes = 0;

  constructor(
    private readonly store: SessionStore,
    private readonly bounds: SessionLimits,
    stored: StoredSessions = { head: FIRST_HEAD, sessions: [] },
  ) {
    assert(bounds.sessions >= 1 && bounds.answers >= 1, "a session and an answer can be remembered", { ...bounds });
    assert(largestSessionBytes(bounds) <= bounds.bytes, "a largest session can be remembered", { ...bounds });
    this.#rules = stored.head.rules;
    this.#horizon = stored.head.horizon;
    const inOrderOfUse = [...stored.sessions].sort((a, b) => a.lastUsed - b.lastUsed);
    for (const session of inOrderOfUse) {
      this.#sessions.set(session.clientId, { ...session });
      this.#bytes += bytesOf(session);
    }
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** Version of the rules in force. */
  get rules(): SessionRules {
    return this.#rules;
  }

  /** Bytes of all sessions and answers, as `SessionLimits.bytes` counts them. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Answers the command of the entry at `index`: from memory when it is a retry, otherwise by
   * carrying it out. A request id counts as a use of the session, and its acknowledgement takes
   * effect, whatever the answer is. A client that may be a forgotten one changes nothing.
   */
  answer(requestId: RequestId, index: number, carryOut: () => CommandResult): CommandResult {
    const session = this.#use(requestId, index);
    if (session === undefined) return commandResult(CommandOutcome.SESSION_EXPIRED, index);
    const result = this.#answer(session, Number(requestId.sequence), index, carryOut);
    this.#forgetThrough(session, Number(requestId.acknowledgedThrough));
    this.#evictSessions();
    return result;
  }

  /**
   * Adopts the rules that a command names, unless they are in force. This program must know them.
   */
  adopt(rules: number): void {
    if (rules <= this.#rules) return;
    assert(rules <= NEWEST_RULES, "the rules are known", { rules });
    const isCounted = this.#rules === sessionRules.counted;
    this.#rules = rules as SessionRules;
    this.#hasNewHead = true;
    if (!isCounted) return;
    this.#horizon = this.#horizonOfCounted();
    for (const session of this.#sessions.values()) this.#shorten(session);
    this.#evictSessions();
  }

  /** Whether the answer to a request is remembered. */
  remembers(clientId: string, sequence: number): boolean {
    const session = this.#sessions.get(clientId);
    return session !== undefined && holds(session.sequences, sequence);
  }

  /** Number of sessions that have changed since the last {@link flush}. */
  get changedCount(): number {
    return this.#changed.size;
  }

  /** Returns the heads of the sessions that have changed since the last {@link flush}. */
  changedHeads(): SessionHead[] {
    return Array.from(this.#changed, ({ clientId, floor, lastUsed }) => ({ clientId, floor, lastUsed }));
  }

  /** Data about all sessions together, as it is now. */
  get head(): SessionsHead {
    return { rules: this.#rules, horizon: this.#horizon };
  }

  /** Writes the changes since the last call. Call it before the store's transaction ends. */
  flush(): void {
    if (this.#hasNewHead) this.store.putSessionsHead({ rules: this.#rules, horizon: this.#horizon });
    this.#hasNewHead = false;
    for (const { clientId, floor, lastUsed } of this.#changed) this.store.putSession({ clientId, floor, lastUsed });
    this.#changed.clear();
  }

  #answer(session: Session, sequence: number, index: number, carryOut: () => CommandResult): CommandResult {
    if (holds(session.sequences, sequence)) return this.#remembered(session, sequence);
    if (sequence <= session.floor) return commandResult(CommandOutcome.RETRY_TOO_OLD, index);
    const result = carryOut();
    this.#remember(session, sequence, result);
    return result;
  }

  #remembered({ clientId }: Session, sequence: number): CommandResult {
    const answer = this.store.getAnswer(clientId, sequence);
    assert(answer !== undefined, "a remembered answer is stored", { clientId, sequence });
    return decodeResult(Uint8Array.prototype.slice.call(answer));
  }

  /**
   * Marks the session as the one used last, and returns it; undefined when the client may be a
   * forgotten one.
   */
  #use({ clientId, since }: RequestId, index: number): Session | undefined {
    let session = this.#sessions.get(clientId);
    if (session === undefined) {
      if (!this.#isNew(Number(since), index)) return undefined;
      session = { clientId, floor: 0, lastUsed: 0, sequences: [], sizes: [] };
      this.#bytes += sessionBytes(clientId);
    }
    session.lastUsed = index;
    this.#sessions.delete(clientId);
    this.#sessions.set(clientId, session);
    this.#changed.add(session);
    return session;
  }

  /** Returns whether a client without a session never had one. */
  #isNew(since: number, index: number): boolean {
    if (this.#rules === sessionRules.counted) return true;
    return since >= this.#horizon && since < index;
  }

  #remember(session: Session, sequence: number, result: CommandResult): void {
    const answer = encodeResult(this.#shortened(result));
    const at = placeOf(session.sequences, sequence);
    session.sequences.splice(at, 0, sequence);
    session.sizes.splice(at, 0, answer.byteLength);
    this.#bytes += answerBytes(answer.byteLength);
    this.store.putAnswer(session.clientId, sequence, answer);
    const most = answersMax(this.#rules, this.bounds);
    while (session.sequences.length > most) this.#forgetThrough(session, session.sequences[0]!);
  }

  #shortened(result: CommandResult): CommandResult {
    return this.#rules === sessionRules.counted ? result : rememberedResult(result, this.bounds.valueBytes);
  }

  /**
   * Forgets the answers up to a sequence, and with them whether those requests were carried out.
   */
  #forgetThrough(session: Session, sequence: number): void {
    if (sequence <= session.floor) return;
    session.floor = sequence;
    const forgotten = session.sequences.splice(0, placeOf(session.sequences, sequence + 1));
    for (const size of session.sizes.splice(0, forgotten.length)) this.#bytes -= answerBytes(size);
    this.store.deleteAnswersThrough(session.clientId, sequence, forgotten);
  }

  #evictSessions(): void {
    for (const session of this.#sessions.values()) {
      if (!this.#areTooMany) return;
      this.store.deleteSession(session.clientId, session.sequences);
      this.#sessions.delete(session.clientId);
      this.#changed.delete(session);
      this.#bytes -= bytesOf(session);
      if (this.#rules === sessionRules.counted) continue;
      this.#horizon = session.lastUsed;
      this.#hasNewHead = true;
    }
  }

  get #areTooMany(): boolean {
    if (this.#sessions.size > this.bounds.sessions) return true;
    return this.#rules !== sessionRules.counted && this.#bytes > this.bounds.bytes;
  }

  /**
   * Returns a horizon above all sessions that the first rules forgot: they forgot one only when
   * there were too many.
   */
  #horizonOfCounted(): number {
    const [oldest] = this.#sessions.values();
    return oldest === undefined || this.#sessions.size < this.bounds.sessions ? 0 : oldest.lastUsed - 1;
  }

  /** Removes long values from answers that the first rules kept. */
  #shorten(session: Session): void {
    const most = encodedAnswerBytesMax(this.bounds.valueBytes);
    session.sequences.forEach((sequence, at) => {
      const size = session.sizes[at]!;
      if (size <= this.bounds.valueBytes) return;
      const answer = encodeResult(this.#shortened(this.#remembered(session, sequence)));
      assert(answer.byteLength <= most, "a shortened answer is short", { bytes: answer.byteLength });
      if (answer.byteLength === size) return;
      this.#changed.add(session);
      this.store.replaceAnswer(session.clientId, sequence, answer);
      session.sizes[at] = answer.byteLength;
      this.#bytes += answer.byteLength - size;
    });
  }
}

function bytesOf({ clientId, sizes }: StoredSession | Session): number {
  return sizes.reduce((sum, size) => sum + answerBytes(size), sessionBytes(clientId));
}

function holds(sequences: readonly number[], sequence: number): boolean {
  return sequences[placeOf(sequences, sequence)] === sequence;
}

/**
 * Returns the position of a sequence in ascending order, or the position to insert it at. That is
 * mostly the end, since a client's newest request has the highest sequence.
 */
function placeOf(sequences: readonly number[], sequence: number): number {
  let low = 0;
  let high = sequences.length;
  if (high > 0 && sequence > sequences[high - 1]!) return high;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sequences[middle]! < sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}
