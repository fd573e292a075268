import { CommandOutcome, type CommandResult, type RequestId } from "../../gen/cairn/v1/storage_pb.js";
import { assert } from "../core/invariants.js";
import { limits } from "../core/limits.js";
import { commandResult, decodeResult, encodeResult } from "./command.js";

/** How much the cluster remembers of its clients. The same on every replica, or their states drift apart. */
export interface SessionLimits {
  /** Sessions; the one unused for longest goes first. */
  readonly sessions: number;
  /** Answers of one session; the lowest sequence goes first. */
  readonly answers: number;
}

export const DEFAULT_SESSION_LIMITS: SessionLimits = { sessions: limits.sessions, answers: limits.sessionAnswers };

/** What is remembered of a client besides its answers. */
export interface SessionHead {
  readonly clientId: string;
  /** Highest sequence whose answer is forgotten; 0 when none is. */
  readonly floor: number;
  /** Index of the last entry that named the session, also as a retry. */
  readonly lastUsed: number;
}

/** Where sessions are kept. The table above it decides what is kept. */
export interface SessionStore {
  putSession(head: SessionHead): void;
  deleteSession(clientId: string): void;
  /** The answer's bytes; they may be good only until the next call. */
  getAnswer(clientId: string, sequence: number): Uint8Array | undefined;
  putAnswer(clientId: string, sequence: number, answer: Uint8Array): void;
  deleteAnswer(clientId: string, sequence: number): void;
}

/** A session as it is read back from where it is kept. */
export interface StoredSession extends SessionHead {
  /** Sequences of the remembered answers, ascending. */
  readonly sequences: number[];
}

interface Session {
  readonly clientId: string;
  floor: number;
  lastUsed: number;
  readonly sequences: number[];
}

/**
 * The table of client sessions, which makes retries exactly-once (thesis section 6.3). Part of the replicated state: what it does
 * is a function of the entries alone. Answers stay in the store; only their sequences are held in memory.
 */
export class SessionTable {
  /** In order of last use, oldest first. */
  readonly #sessions = new Map<string, Session>();
  /** Sessions whose head has changed since the last flush. */
  readonly #changed = new Set<Session>();

  constructor(
    private readonly store: SessionStore,
    private readonly bounds: SessionLimits,
    stored: Iterable<StoredSession> = [],
  ) {
    assert(bounds.sessions >= 1 && bounds.answers >= 1, "a session and an answer can be remembered", { ...bounds });
    const inOrderOfUse = [...stored].sort((a, b) => a.lastUsed - b.lastUsed);
    for (const session of inOrderOfUse) this.#sessions.set(session.clientId, { ...session });
  }

  get size(): number {
    return this.#sessions.size;
  }

  /**
   * Answers the command of the entry at `index`: from memory when it is a retry, else by carrying it out. A request id counts as a
   * use of the session, and its acknowledgement takes effect, whatever the answer.
   */
  answer(requestId: RequestId, index: number, carryOut: () => CommandResult): CommandResult {
    const session = this.#use(requestId.clientId, index);
    const result = this.#answer(session, Number(requestId.sequence), index, carryOut);
    this.#forgetThrough(session, Number(requestId.acknowledgedThrough));
    this.#evictSessions();
    return result;
  }

  /** Writes the heads of the sessions that were used since the last call. Comes before the end of the store's transaction. */
  flush(): void {
    for (const { clientId, floor, lastUsed } of this.#changed) this.store.putSession({ clientId, floor, lastUsed });
    this.#changed.clear();
  }

  #answer(session: Session, sequence: number, index: number, carryOut: () => CommandResult): CommandResult {
    if (holds(session.sequences, sequence)) {
      const answer = this.store.getAnswer(session.clientId, sequence);
      assert(answer !== undefined, "a remembered answer is stored", { clientId: session.clientId, sequence });
      return decodeResult(Uint8Array.prototype.slice.call(answer));
    }
    if (sequence <= session.floor) return commandResult(CommandOutcome.RETRY_TOO_OLD, index);
    const result = carryOut();
    this.#remember(session, sequence, result);
    return result;
  }

  #use(clientId: string, index: number): Session {
    const session = this.#sessions.get(clientId) ?? { clientId, floor: 0, lastUsed: 0, sequences: [] };
    session.lastUsed = index;
    this.#sessions.delete(clientId);
    this.#sessions.set(clientId, session);
    this.#changed.add(session);
    return session;
  }

  #remember(session: Session, sequence: number, result: CommandResult): void {
    session.sequences.splice(placeOf(session.sequences, sequence), 0, sequence);
    this.store.putAnswer(session.clientId, sequence, encodeResult(result));
    while (session.sequences.length > this.bounds.answers) this.#forgetThrough(session, session.sequences[0]!);
  }

  /** Forgets the answers up to a sequence, and with them whether those requests were carried out. */
  #forgetThrough(session: Session, sequence: number): void {
    if (sequence <= session.floor) return;
    session.floor = sequence;
    const forgotten = session.sequences.splice(0, placeOf(session.sequences, sequence + 1));
    for (const each of forgotten) this.store.deleteAnswer(session.clientId, each);
  }

  #evictSessions(): void {
    for (const session of this.#sessions.values()) {
      if (this.#sessions.size <= this.bounds.sessions) return;
      for (const sequence of session.sequences) this.store.deleteAnswer(session.clientId, sequence);
      this.store.deleteSession(session.clientId);
      this.#sessions.delete(session.clientId);
      this.#changed.delete(session);
    }
  }
}

function holds(sequences: readonly number[], sequence: number): boolean {
  return sequences[placeOf(sequences, sequence)] === sequence;
}

/** Where a sequence is, or belongs, in ascending order: mostly at the end, where a client's newest request goes. */
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
