import { limits } from "../../base/limits.js";

// Bounds the memory that the cluster keeps of its clients, and names the versions of the rules for
// it. Both are part of the log's meaning: replicas that differ in them drift apart.

/**
 * Versions of the rules for commands and remembered answers. A state begins with the first, and
 * adopts newer ones at the first command that names them, so all replicas change at the same entry.
 *
 *   1  sessions and their answers are bounded in number
 *   2  (T6) also in bytes: a long value is not remembered; the horizon tells a new client from a
 *      forgotten one
 *   3  more answers are remembered for each session: a client may have more writes in flight. New
 *      commands: transactions, and deletes with if_version
 *   4  leases, and keys that are attached to them. Answers are remembered as before
 *   5  flush points of a store that the leader asks for. Answers are remembered as before
 */
export const sessionRules = { counted: 1, bounded: 2, wide: 3, leased: 4, stored: 5 } as const;

export type SessionRules = (typeof sessionRules)[keyof typeof sessionRules];

/** Newest rules that this version knows. */
export const NEWEST_RULES: SessionRules = sessionRules.stored;

/**
 * Rules for remembered answers that servers of this version ask for with each request id. Newer
 * ones do not differ in them, and are named only by the commands that need them: a member of the
 * version before can follow until then.
 */
export const ANSWER_RULES: SessionRules = sessionRules.wide;

/** Rules that a member knows that does not tell, as those did that came before leases. */
export const UNTOLD_RULES: SessionRules = sessionRules.wide;

export interface SessionLimits {
  /** Number of sessions; the one unused for longest goes first. */
  readonly sessions: number;
  /** Number of answers of one session; the lowest sequence goes first. */
  readonly answers: number;
  /** Longest value that is remembered with an answer; of a longer one, only the version is kept. */
  readonly valueBytes: number;
  /**
   * Bytes of all sessions, as {@link sessionBytes} and {@link answerBytes} count them; the session
   * unused for longest goes first.
   */
  readonly bytes: number;
}

export const DEFAULT_SESSION_LIMITS: SessionLimits = {
  sessions: limits.sessions,
  answers: limits.sessionAnswers,
  valueBytes: limits.sessionValueBytes,
  bytes: limits.sessionBytes,
};

/** Data about all sessions of a state together. */
export interface SessionsHead {
  readonly rules: SessionRules;
  /** Highest index at which a forgotten session was last used; 0 when no session was forgotten. */
  readonly horizon: number;
}

export const FIRST_HEAD: SessionsHead = { rules: sessionRules.counted, horizon: 0 };

/** Returns the number of answers that the rules remember for each session. */
export function answersMax(rules: SessionRules, { answers }: SessionLimits): number {
  return rules >= sessionRules.wide ? answers : Math.min(answers, limits.sessionAnswersBefore);
}

/** Returns the bytes that a session counts for, without its answers. */
export function sessionBytes(clientId: string): number {
  return limits.sessionOverheadBytes + Buffer.byteLength(clientId);
}

/** Returns the bytes that an answer counts for, from the length of its encoding. */
export function answerBytes(encodedBytes: number): number {
  return limits.answerOverheadBytes + encodedBytes;
}

/** Returns the largest size of an encoded answer whose value has at most `valueBytes`. */
export function encodedAnswerBytesMax(valueBytes: number): number {
  return valueBytes + limits.answerFieldsBytes;
}

/** Returns the most bytes that one session can count for. */
export function largestSessionBytes({ answers, valueBytes }: SessionLimits): number {
  const answer = answerBytes(encodedAnswerBytesMax(valueBytes));
  return limits.sessionOverheadBytes + limits.clientIdBytes + answers * answer;
}
