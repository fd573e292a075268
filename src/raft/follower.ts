import { InvariantViolation } from "../base/assert.js";
import { changeProblem, snapshotProblem } from "./membership/membership_rules.js";
import {
  type AppendEntries,
  type AppendEntriesAnswer,
  type AppendRejection,
  type InstallResult,
  type InstallSnapshot,
  type InstallSnapshotAnswer,
  wellFormed,
} from "./messages.js";
import type { LostData, RaftState } from "./state.js";
import type { Entry, LogPosition, Membership } from "./types.js";

// The follower's rules: AppendEntries and InstallSnapshot, as their receiver handles them.

/**
 * Handles AppendEntries as a follower (Raft figure 2). The answer leaves once its promise is
 * durable.
 */
export function onAppendEntries(state: RaftState, message: AppendEntries): void {
  const form = wellFormed(message);
  if ("refused" in form) {
    throw new InvariantViolation(`AppendEntries is well-formed: ${form.refused}`, { from: message.from });
  }
  const answer = answerAppend(state, message);
  if (answer.outcome === "rejected") {
    state.send(answer);
    return;
  }
  // Answer heartbeats before the snapshot is durable, but promise nothing: the log is not durable
  // either.
  const isAlive = state.unwrittenSnapshot !== undefined && message.entries.length === 0;
  if (isAlive) state.send({ ...answer, matchIndex: 0 });
  else state.send(answer, answer.matchIndex);
}

function answerAppend(state: RaftState, message: AppendEntries): AppendEntriesAnswer {
  const { log } = state;
  if (message.term < state.term) {
    const detail = `term ${message.term} is over, this node is in term ${state.term}`;
    return refuse(state, message, { reason: "stale_term", detail });
  }
  if (message.isConditional === true) {
    const early = place(state, message);
    if ("refusal" in early) return early.refusal;
  }
  state.becomeFollower(message.term, message.from);
  const lost = lostData(state, message);
  if (lost !== undefined) {
    const detail = `this node acknowledged entries up to ${lost.acknowledged}, and its log ends at ${lost.has}: it has lost data`;
    return refuse(state, message, { reason: "lost", detail });
  }

  const placed = place(state, message);
  if ("refusal" in placed) return placed.refusal;
  const { last, fresh } = placed;
  // Raft section 5.3: remove an entry that conflicts with the leader's, and all that follow it.
  if (fresh[0] !== undefined) truncateAfter(state, fresh[0].index - 1);
  for (const entry of fresh) state.append(entry);
  // Entries above `last` may not be the leader's, so commit only what this message vouches for.
  log.commitTo(Math.min(message.leaderCommit, last.index));
  return { ...answerTo(state, message), outcome: "accepted", matchIndex: last.index };
}

/** The place of a message's entries in this log. */
type Placed =
  /** The last position that the message vouches for, and the entries that this log lacks. */
  { readonly last: LogPosition; readonly fresh: readonly Entry[] } | { readonly refusal: AppendEntriesAnswer };

/** Finds the place of a message's entries. Changes nothing but the record of violations. */
function place(state: RaftState, message: AppendEntries): Placed {
  const { log } = state;
  const { prev, entries } = skipTrimmed(message, log.boundary);
  const last: LogPosition = entries.at(-1) ?? prev;
  const prevTerm = log.termAt(prev.index);
  if (prevTerm !== prev.term) return { refusal: refusePrev(state, message, prev, prevTerm) };
  const at = entries.findIndex((entry) => log.termAt(entry.index) !== entry.term);
  const fresh = at < 0 ? [] : entries.slice(at);
  const conflict = fresh[0];
  if (conflict !== undefined && conflict.index <= log.commit) {
    return { refusal: refuseConflict(state, message, conflict) };
  }
  const problem = configurationProblem(state, fresh);
  return problem === undefined
    ? { last, fresh }
    : { refusal: refuse(state, message, { reason: "safety", detail: problem }) };
}

/**
 * Returns the data that this node has lost (T3): its log is shorter than it acknowledged. A log
 * does not shrink below what it acknowledged to the leader of its term, nor below what it
 * acknowledged and was committed then. From now on this node neither acknowledges nor votes: its
 * vote may be lost, too.
 */
function lostData(state: RaftState, { acknowledged = 0 }: AppendEntries): LostData | undefined {
  const has = state.log.last.index;
  if (has < acknowledged) state.lost ??= { acknowledged, has };
  return state.lost;
}

/**
 * Accepts or refuses a snapshot whose file has arrived (Raft figure 13). An accepted one is the
 * state's installation from then on, and {@link answerInstalled} is due once it is installed.
 */
export function onInstallSnapshot(state: RaftState, message: InstallSnapshot): void {
  const refusal = refuseInstall(state, message);
  if (refusal !== undefined) {
    state.send(refusal, refusal.outcome === "already_committed" ? refusal.matchIndex : undefined);
    return;
  }
  const { snapshot } = message;
  state.log.restoreTo(snapshot);
  state.memberships.truncateAfter(state.log.last.index);
  const behind = state.memberships.after(snapshot.index);
  state.memberships.reset(snapshot.membership);
  for (const membership of behind) state.memberships.append(membership);
  state.snapshot = { index: snapshot.index, term: snapshot.term };
  state.beginInstalling(message);
}

function refuseInstall(state: RaftState, message: InstallSnapshot): InstallSnapshotAnswer | undefined {
  const { log } = state;
  const { snapshot } = message;
  const answer = (result: InstallResult) => installAnswer(state, message, result);
  const violation = (detail: string) => {
    state.violated(message, detail);
    return answer({ outcome: "safety", detail });
  };
  if (message.term < state.term) {
    const detail = `term ${message.term} is over, this node is in term ${state.term}`;
    return answer({ outcome: "stale_term", detail });
  }
  if (state.lost !== undefined) {
    return answer({ outcome: "safety", detail: "this node has lost data that it acknowledged" });
  }
  // The file's reader has checked this already. Check again: an accepted snapshot cannot be undone.
  const problem = snapshotProblem(snapshot);
  if (problem !== undefined) return violation(`the snapshot says of itself: ${problem}`);
  if (snapshot.term > message.term) {
    return violation(`the snapshot's term ${snapshot.term} is above the leader's term ${message.term}`);
  }
  const committed = log.termAt(log.commit) ?? 0;
  if (snapshot.index > log.commit && snapshot.term < committed) {
    // Terms never fall along a log, and every leader's log has the entries that are committed here.
    const detail = `snapshot_term ${snapshot.term} at index ${snapshot.index} is below the term ${committed} of the committed entry ${log.commit}`;
    return violation(detail);
  }
  state.becomeFollower(message.term, message.from);
  // R3: every later leader's log has the entries that are committed here (Raft section 5.4).
  if (snapshot.index <= log.commit) {
    const detail = `index ${snapshot.index} is committed here already, up to ${log.commit}`;
    return answer({ outcome: "already_committed", matchIndex: log.commit, detail });
  }
  return undefined;
}

/** Answers the request whose snapshot is now installed. */
export function answerInstalled(state: RaftState, message: InstallSnapshot): void {
  const { index } = message.snapshot;
  const result = { outcome: "installed", matchIndex: index, detail: `installed up to ${index}` } as const;
  state.send(installAnswer(state, message, result), index);
}

function installAnswer(state: RaftState, message: InstallSnapshot, result: InstallResult): InstallSnapshotAnswer {
  return { ...base(state, message), type: "install_snapshot_answer", ...result };
}

/**
 * Describes the first new configuration that no correct leader appends; undefined when all are
 * legal. Checked before any change of state (T5): a configuration takes effect as soon as it is in
 * the log, and one that leaves out every member known here would cut this node off from any later
 * one.
 */
function configurationProblem(state: RaftState, fresh: readonly Entry[]): string | undefined {
  let before: Membership | undefined;
  for (const entry of fresh) {
    if (entry.type !== "configuration") continue;
    // The new entries may replace configurations of the log; those do not count.
    before ??= state.memberships.at(fresh[0]!.index - 1).members;
    const after = decoded(state, entry);
    if (after === undefined) return `entry ${entry.index} is a configuration whose bytes are not a membership`;
    const problem = changeProblem(before, after);
    if (problem !== undefined) return `entry ${entry.index} is not a legal change of the membership: ${problem}`;
    before = after;
  }
  return undefined;
}

function decoded(state: RaftState, { data }: Entry): Membership | undefined {
  try {
    return state.codec.decode(data);
  } catch {
    return undefined;
  }
}

/**
 * Skips the entries at or below the boundary, and returns the rest (R1): they are committed, here
 * and at every leader.
 */
function skipTrimmed(message: AppendEntries, boundary: LogPosition): { prev: LogPosition; entries: readonly Entry[] } {
  const { prev, entries } = message;
  if (prev.index >= boundary.index) return { prev, entries };
  const covered = Math.min(boundary.index - prev.index, entries.length);
  const atBoundary = entries[boundary.index - prev.index - 1];
  // R2: an entry of the message at the boundary must be the one that was trimmed.
  return { prev: atBoundary ?? boundary, entries: entries.slice(covered) };
}

function refusePrev(
  state: RaftState,
  message: AppendEntries,
  prev: LogPosition,
  present: number | undefined,
): AppendEntriesAnswer {
  const { log } = state;
  if (present === undefined) {
    const next = log.last.index + 1;
    const detail = `the log ends at ${log.last.index}: send entries from ${next}`;
    return refuse(state, message, { reason: "log_mismatch", detail, conflictTerm: undefined, conflictIndex: next });
  }
  if (prev.index <= log.commit) return refuseConflict(state, message, prev);
  // Fast backtracking (end of Raft section 5.3): skip the whole term, but no committed entry.
  const next = Math.max(log.firstIndexOfTermAt(prev.index), log.commit + 1);
  const detail = `entry ${prev.index} has term ${present} here, not ${prev.term}: send entries from ${next}`;
  return refuse(state, message, { reason: "log_mismatch", detail, conflictTerm: present, conflictIndex: next });
}

/** Refuses an entry that contradicts a committed one. */
function refuseConflict(state: RaftState, message: AppendEntries, { index, term }: LogPosition): AppendEntriesAnswer {
  const present = state.log.termAt(index);
  const next = state.log.commit + 1;
  const detail =
    `entry ${index} of term ${term} contradicts the committed entry of term ${present} there: ` +
    `expected entries from ${next}`;
  const contradicted = { conflictTerm: present, conflictIndex: next };
  return refuse(state, message, { reason: "safety", detail, contradicted });
}

/**
 * Removes the entries above `index`. An answer that waits for them to be durable would promise an
 * earlier leader entries that are gone: it becomes a rejection.
 */
function truncateAfter(state: RaftState, index: number): void {
  state.truncateAfter(index);
  const detail = `a leader of term ${state.term} has replaced the entries`;
  state.outbox.revise((message) => {
    if (message.type !== "append_entries_answer") return message;
    if (message.outcome === "rejected" || message.matchIndex <= index) return message;
    const { to: from, requestId } = message;
    return refuse(state, { from, requestId }, { reason: "stale_term", detail });
  });
}

function refuse(state: RaftState, message: Requester, rejection: AppendRejection): AppendEntriesAnswer {
  // The sender of a conditional message asks whether its entries fit.
  if (rejection.reason === "safety" && message.isConditional !== true) state.violated(message, rejection.detail);
  return { ...answerTo(state, message), outcome: "rejected", rejection };
}

function answerTo(state: RaftState, message: Requester) {
  return { ...base(state, message), type: "append_entries_answer", lastIndex: state.log.last.index } as const;
}

/** The sender of a request, and the request that the answer is for. */
type Requester = Pick<AppendEntries, "from" | "address" | "requestId" | "isConditional">;

function base(state: RaftState, message: Requester) {
  return { to: message.from, requestId: message.requestId, term: state.term };
}
