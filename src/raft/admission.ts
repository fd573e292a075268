import { memberKey, nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import type { PeerAnswer, Request, Response } from "./messages.js";
import type { RaftState } from "./state.js";

// Refuses requests before any role acts on them: those of strangers (T10), and those that no
// correct member sends (T5, T6). ARCHITECTURE.md argues why that is safe and shuts no member out.

/** A reason to refuse a request. `stranger`: its sender does not vote, as far as the node knows. */
export interface Fault {
  readonly kind: "stranger" | "violation";
  readonly detail: string;
}

/** The facts by which a request is admitted. */
export interface RequestFacts extends Pick<Request, "type" | "from" | "term" | "membershipIndex"> {
  /** Highest index that the request speaks of. */
  readonly index: number;
}

/**
 * Refuses, answers and records a request that must not be acted on. Returns whether it did; the
 * caller then ignores the request.
 */
export function refuseInadmissible(state: RaftState, request: Request): boolean {
  const fault = faultOf(state, factsOf(request)) ?? climb(state, request);
  if (fault === undefined) return false;
  if (fault.kind === "stranger") state.strange(request, fault.detail);
  else state.violated(request, fault.detail);
  state.send(refusalOf(state, request, fault));
  return true;
}

/** Returns the reason to refuse a request; undefined when it may be correct. Changes nothing. */
export function faultOf(state: RaftState, request: RequestFacts): Fault | undefined {
  const { from } = request;
  if (from === state.id) return violation(`the message claims to be from this node, ${nameOf(from)}, itself`);
  return strangerFault(state, request) ?? leaderFault(state, request) ?? farFault(state, request);
}

function factsOf(request: Request): RequestFacts {
  const { type, from, term, membershipIndex } = request;
  return { type, from, term, membershipIndex, index: furthestIndex(request) };
}

function furthestIndex(request: Request): number {
  switch (request.type) {
    case "append_entries":
      return Math.max(request.prev.index + request.entries.length, request.leaderCommit, request.acknowledged ?? 0);
    case "install_snapshot":
      return request.snapshot.index;
    case "request_vote":
      return request.last.index;
    case "timeout_now":
      return 0;
  }
}

/**
 * Returns the fault of a sender that does not vote in this cluster (T10). Only voters campaign and
 * lead, so nobody else sends requests. A node whose log is behind does not know the latest voters,
 * though, and must not be shut out. It therefore also listens to a sender that says that it knows a
 * later membership, when no member that it knows has led for `strangerTimeouts`. It believes no
 * membership by that: only the log and snapshots tell it one.
 */
function strangerFault(state: RaftState, { type, from, term, membershipIndex = 0 }: RequestFacts): Fault | undefined {
  const { memberships, log, termLeader } = state;
  if (state.listensTo === "everyone") return undefined;
  // A leader that its own entry has removed leads until it has handed over (thesis section 4.2.2).
  if (from === termLeader && term === state.term) return undefined;
  // T1: a directory without a membership can judge nobody.
  if (memberships.latest.members.length === 0 || memberships.mayVote(from, log.commit)) return undefined;
  const known = memberships.at(log.commit).index;
  const unknown = strangerText(state, from);
  // A leader hands over to a member that has all of its log, and so knows the leader.
  if (type === "timeout_now" || membershipIndex <= known) return { kind: "stranger", detail: unknown };
  if (state.isForsaken) return undefined;
  const detail = `${unknown}; it names a later membership, of index ${membershipIndex}, but this node has heard from a leader within strangerTimeouts (${limits.strangerTimeouts}) election timeouts`;
  return { kind: "stranger", detail };
}

function strangerText({ memberships }: RaftState, from: string): string {
  const { index, members } = memberships.latest;
  const name = nameOf(from);
  const member = members.find(({ id }) => id === name);
  const where = `in the membership of index ${index}, the latest that this node has`;
  if (member === undefined) return `${name} is not a member ${where}`;
  if (memberKey(member) !== from) return `${name} is another directory than the one of this name ${where}`;
  return `${name} is not a voter ${where}`;
}

/** Returns the fault of a second leader in the term of another one. */
function leaderFault(state: RaftState, { type, from, term }: RequestFacts): Fault | undefined {
  // A candidate asks for votes, not a leader.
  if (type === "request_vote" || term !== state.term) return undefined;
  const { termLeader } = state;
  // Raft section 5.2, election safety: at most one leader in a term. This node cannot tell which of
  // the two is the true one. It followed the first one, whose entries may be committed with its
  // help.
  if (termLeader === undefined || termLeader === from) return undefined;
  if (termLeader === state.id) return violation(`this node itself leads in term ${term}`);
  return violation(`${nameOf(from)} acts as leader of term ${term}, but ${nameOf(termLeader)} leads in that term`);
}

/**
 * Returns the fault of a request whose index or term is further ahead of this node than any correct
 * member gets (T6). With manual elections the embedder chooses terms and indexes.
 */
function farFault(state: RaftState, request: RequestFacts): Fault | undefined {
  if (!state.timing.isAutomatic) return undefined;
  const { from, term, membershipIndex = 0 } = request;
  const index = Math.max(request.index, membershipIndex);
  if (isFarIndex(state, index)) {
    const { last } = state.log;
    return violation(
      `${nameOf(from)} speaks of index ${index}, more than indexJump (${limits.indexJump}) above the end of this node's log, ${last.index}`,
    );
  }
  if (isNear(state, term) || !state.hearsLeader) return undefined;
  return violation(`${farTermText(state, from, term)}: ${staysText(state)}`);
}

/**
 * Whether an index is implausibly far ahead. None is for a node without a log, which has to begin
 * somewhere.
 */
function isFarIndex({ log, memberships }: RaftState, index: number): boolean {
  if (log.last.index === 0 || memberships.latest.members.length === 0) return false;
  return index > log.last.index + limits.indexJump;
}

function isNear(state: RaftState, term: number): boolean {
  return !state.timing.isAutomatic || term <= state.term + limits.termJump;
}

function farTermText(state: RaftState, from: string, term: number): string {
  return `${nameOf(from)} speaks of term ${term}, more than termJump (${limits.termJump}) above this node's term ${state.term}`;
}

function staysText({ role }: RaftState): string {
  return `this node ${role === "leader" ? "leads" : "hears from a leader"}, and stays in its term`;
}

/**
 * Raises this node's term towards a far higher one by one `termStep`, when no leader is heard.
 * Returns the fault of the request; undefined when its term is near.
 *
 * A node must not adopt a wild term at once: a term only rises, so a single message could use up
 * all terms of a cluster. While a leader is heard, the cluster works without the sender, and the
 * node ignores the term. Otherwise it must not: those that speak of far terms may be needed for a
 * majority. So the node raises its term by one step, and refuses the request.
 *
 * A pre-vote changes no term and promises nothing, so it is not refused: its sender must be able to
 * proceed to the real vote, by which this node climbs.
 */
function climb(state: RaftState, request: Request): Fault | undefined {
  const { from, term } = request;
  if (isNear(state, term) || (request.type === "request_vote" && request.preVote)) return undefined;
  const far = farTermText(state, from, term);
  state.becomeFollower(state.term + limits.termStep, undefined);
  return violation(`${far}: this node moves to term ${state.term} only`);
}

function violation(detail: string): Fault {
  return { kind: "violation", detail };
}

function refusalOf(state: RaftState, { type, from: to, requestId }: Request, { kind, detail }: Fault): Response {
  const base = { to, requestId, term: state.term };
  switch (type) {
    case "append_entries": {
      const reason = kind === "stranger" ? "not_member" : "safety";
      const rejected = { outcome: "rejected", rejection: { reason, detail } } as const;
      return { ...base, type: "append_entries_answer", ...rejected, lastIndex: state.log.last.index };
    }
    case "install_snapshot":
      return { ...base, type: "install_snapshot_answer", outcome: "safety", detail };
    case "request_vote":
      return { ...base, type: "request_vote_answer", granted: false };
    case "timeout_now":
      return { ...base, type: "timeout_now_answer" };
  }
}

/**
 * Refuses and records an answer that must not be acted on, as {@link refuseInadmissible} does with
 * requests: one of a member that was removed meanwhile, or one whose term or indexes are far ahead.
 * Returns whether it did. A node that hears from no leader climbs by a far term, one step: it asks
 * again, and the sender answers again.
 */
export function refuseAnswer(state: RaftState, answer: PeerAnswer): boolean {
  if (!state.timing.isAutomatic) return false;
  const { from, term } = answer;
  if (state.listensTo === "voters" && !isMember(state, from)) {
    state.strange(answer, strangerText(state, from));
    return true;
  }
  const acknowledged = answer.type === "request_vote_answer" ? (answer.acknowledged ?? 0) : 0;
  if (isFarIndex(state, acknowledged)) {
    const detail = `${nameOf(from)} says that this node has acknowledged entries up to ${acknowledged}, more than indexJump (${limits.indexJump}) above the end of its log, ${state.log.last.index}`;
    state.violated(answer, detail);
    return true;
  }
  if (isNear(state, term)) return false;
  const far = farTermText(state, from, term);
  if (state.hearsLeader) state.violated(answer, `${far}: ${staysText(state)}`);
  else {
    state.becomeFollower(state.term + limits.termStep, undefined);
    state.violated(answer, `${far}: this node moves to term ${state.term} only`);
  }
  return true;
}

/** Whether a sender of answers belongs to a membership that may be in force, in whatever role. */
function isMember({ memberships, log, voters }: RaftState, key: string): boolean {
  if (voters.includes(key)) return true;
  const inForce = [memberships.at(log.commit), ...memberships.after(log.commit)];
  return inForce.some(({ members }) => members.some((member) => memberKey(member) === key));
}
