import { nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { type Permission, unless } from "../base/permission.js";
import type { Request, Response } from "./messages.js";
import type { RaftState } from "./state.js";

// Refuses requests that no correct member sends, before any role acts on them (T5, T6). Each rule
// proves that the sender, or something between, is faulty. Such a request changes at most this
// node's term, which may rise at any time.

/**
 * Refuses, answers and records a request that breaks the protocol. Returns whether it did; the
 * caller then ignores the request.
 */
export function refuseViolation(state: RaftState, request: Request): boolean {
  const violation = violationOf(state, request) ?? climb(state, request);
  if (violation === undefined) return false;
  state.violated(request.from, violation);
  state.send(refusalOf(state, request, violation));
  return true;
}

/** Whether `from` may be the leader of `term`. Changes nothing. */
export function mayBeLeader(state: RaftState, from: string, term: number): Permission {
  return unless(violationOf(state, { type: "install_snapshot", from, term }));
}

/**
 * Describes how a request breaks the protocol; undefined when it may be correct. Changes nothing.
 */
function violationOf(
  state: RaftState,
  { type, from, term }: Pick<Request, "type" | "from" | "term">,
): string | undefined {
  if (from === state.id) return `the message claims to be from this node, ${nameOf(from)}, itself`;
  // A candidate asks for votes, not a leader.
  if (type === "request_vote" || term !== state.term) return undefined;
  const { termLeader } = state;
  // Raft section 5.2, election safety: at most one leader in a term. This node cannot tell which of
  // the two is the true one. It followed the first one, whose entries may be committed with its
  // help.
  if (termLeader === undefined || termLeader === from) return undefined;
  if (termLeader === state.id) return `this node itself leads in term ${term}`;
  return `${nameOf(from)} acts as leader of term ${term}, but ${nameOf(termLeader)} leads in that term`;
}

/**
 * Raises this node's term towards a far higher one by one step of `termJump`. Returns the reason to
 * refuse the request; undefined when its term is near.
 *
 * A node must not adopt a wild term at once: a term only rises, so a single message could use up
 * all terms of a cluster. Nor may it ignore the term: a member could lag by that many terms because
 * others were led astray while it was away, or because it is joining, and would be shut out for
 * good. So the node raises its term by one step, and refuses the request.
 *
 * That is safe: a node may raise its term at any time, as if it had campaigned. It grants no vote,
 * follows no leader and takes no entry by it. It also shuts nobody out: leaders and candidates
 * repeat their requests, so the terms are near after at most termMax / termJump steps (65,536); in
 * practice, after as many steps as wild messages have raised the others. A pre-vote changes no term
 * and promises nothing, so it is not refused: its sender must be able to proceed to the real vote,
 * by which this node climbs.
 *
 * With manual elections the embedder chooses the terms, so this limit does not apply.
 */
function climb(state: RaftState, request: Request): string | undefined {
  const { from, term } = request;
  const next = state.term + limits.termJump;
  if (term <= next || !state.timing.isAutomatic) return undefined;
  if (request.type === "request_vote") {
    const isIgnored = state.hearsLeader && !request.leadershipTransfer;
    if (request.preVote || isIgnored) return undefined;
  }
  const before = state.term;
  state.becomeFollower(next, undefined);
  return `${nameOf(from)} speaks of term ${term}, more than termJump (${limits.termJump}) above this node's term ${before}: this node moves to term ${next} only`;
}

function refusalOf(state: RaftState, { type, from: to, requestId }: Request, detail: string): Response {
  const base = { to, requestId, term: state.term };
  switch (type) {
    case "append_entries": {
      const rejected = { outcome: "rejected", rejection: { reason: "safety", detail } } as const;
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
 * Returns the term that an answer may raise this node's term to; see {@link climb}. This node asks
 * again, and the sender answers again.
 */
export function reachableTerm(state: RaftState, term: number): number {
  return state.timing.isAutomatic ? Math.min(term, state.term + limits.termJump) : term;
}
