import { exhaustion } from "../base/counters.js";
import { nameOf } from "../base/ids.js";
import { votersOf } from "./membership/membership.js";
import { majority } from "./membership/quorum.js";
import type { PeerVoteAnswer, RequestVote, TimeoutNow } from "./messages.js";
import type { RaftState } from "./state.js";
import type { LogPosition } from "./types.js";

/** The state of an election: `undecided` until a majority has granted or denied its vote. */
export type ElectionResult = "won" | "lost" | "undecided";

/**
 * The receiver's side of RequestVote (Raft figure 2, sections 5.2 and 5.4.1) and of pre-vote
 * (thesis section 9.6).
 */
export function onRequestVote(state: RaftState, message: RequestVote): void {
  const { from, requestId, preVote } = message;
  const granted = isGranted(state, message);
  // A granted pre-vote carries the term that it is for.
  const term = granted ? message.term : state.term;
  const lastIndex = state.log.last.index;
  const acknowledged = state.acknowledged.get(from) ?? 0;
  const answer = { type: "request_vote_answer", to: from, requestId, term, granted, lastIndex, acknowledged } as const;
  // A pre-vote promises nothing.
  if (preVote) state.outbox.now(answer);
  else state.send(answer);
}

function isGranted(state: RaftState, message: RequestVote): boolean {
  // T3: the vote may be forgotten as well as the entries.
  if (state.lost !== undefined) return false;
  // Thesis section 4.2.3: who hears from a leader does not even take over the term, or a removed
  // member could depose it.
  if (state.hearsLeader && !message.leadershipTransfer) return false;
  if (message.preVote) return wouldVote(state, message);
  if (message.term > state.term) state.becomeFollower(message.term, undefined);
  const granted = canVote(state, message);
  if (granted) state.voteFor(message.from);
  return granted;
}

function canVote(state: RaftState, message: RequestVote): boolean {
  if (message.term < state.term) return false;
  if (state.vote !== undefined && state.vote !== message.from) return false;
  return isUpToDate(message.last, state.log.last);
}

/**
 * A node whose disk is stuck says no: its vote could not be made durable, so the candidate would
 * raise the term, wait for a vote that does not come, and raise it again. As soon as the write
 * under way has ended, the next pre-vote is granted.
 */
function wouldVote(state: RaftState, message: RequestVote): boolean {
  return state.disk !== "stuck" && message.term > state.term && isUpToDate(message.last, state.log.last);
}

/**
 * Raft section 5.4.1: the log with the later last term is more up-to-date; with equal terms the
 * longer one.
 */
function isUpToDate(candidate: LogPosition, own: LogPosition): boolean {
  return candidate.term > own.term || (candidate.term === own.term && candidate.index >= own.index);
}

/**
 * Why this node cannot campaign now; undefined when it can. A leader that has given up because of
 * its disk must not win leadership back while the disk is slow (T8), neither by its own timer nor
 * because a leader hands over to it.
 */
export function cannotCampaign(state: RaftState): string | undefined {
  if (state.disk === "suspect" && state.timing.isAutomatic) return "a write to its log was stuck a moment ago";
  return cannotLead(state);
}

function cannotLead(state: RaftState): string | undefined {
  if (state.pendingSnapshot !== undefined) {
    return `the snapshot up to ${state.pendingSnapshot.index} is not installed yet`;
  }
  const id = nameOf(state.id);
  if (state.lost !== undefined)
    return `node ${id} has lost data that it acknowledged, up to ${state.lost.acknowledged}`;
  if (state.memberships.latest.members.length === 0) return `node ${id} does not know any members yet`;
  if (state.removedAt !== undefined) return `node ${id} was removed from this cluster at index ${state.removedAt}`;
  const exhausted = exhaustion(state.term, state.log.last.index);
  if (exhausted !== undefined) return exhausted;
  // It would have to write its vote, and its first entry.
  if (state.disk === "stuck" && state.timing.isAutomatic)
    return "a write to its log has not ended for longer than an election timeout";
  if (!mayBeNeeded(state)) return `node ${id} is not a voter of this cluster`;
  return undefined;
}

/**
 * Voters campaign: those whose own directory is a voter by a membership in their own log or
 * snapshot (T1). So does a node that was one until a change that may not be committed yet, because
 * it may be the only one that can commit it (thesis section 4.2.2, figure 4.6). Its own vote does
 * not count then.
 */
function mayBeNeeded({ id, memberships, log }: RaftState): boolean {
  const inForce = [memberships.at(log.commit), ...memberships.after(log.commit)];
  return inForce.some(({ members }) => votersOf(members).includes(id));
}

/** Why this node cannot campaign before its time, at an operator's wish; undefined when it can. */
export function cannotCampaignNow(state: RaftState): string | undefined {
  const hasPeers = state.voters.some((id) => id !== state.id);
  // Its own vote, too, is promised not to be given.
  if (state.timing.hasLeases && state.hearsLeader && hasPeers) {
    return "the cluster uses leases, and a leader may be alive: hand leadership over, or wait for an election timeout";
  }
  // An operator who insists may know that the disk is well again.
  return cannotLead(state);
}

/**
 * Asks the voters whether they would elect this node; {@link cannotCampaign} must have said
 * nothing.
 */
export function preCampaign(state: RaftState): ElectionResult {
  state.becomePreCandidate();
  askForVotes(state, { term: state.term + 1, preVote: true, leadershipTransfer: false });
  return resultOf(state);
}

/** Starts an election (Raft section 5.2); {@link cannotCampaign} must have said nothing. */
export function campaign(state: RaftState, { isTransfer }: { isTransfer: boolean }): ElectionResult {
  state.becomeCandidate();
  askForVotes(state, { term: state.term, preVote: false, leadershipTransfer: isTransfer });
  return resultOf(state);
}

function askForVotes(state: RaftState, how: Pick<RequestVote, "term" | "preVote" | "leadershipTransfer">): void {
  const { index, term } = state.log.last;
  for (const to of state.voters) {
    if (to === state.id) continue;
    const request = { type: "request_vote", from: state.id, to, last: { index, term }, ...how } as const;
    // A candidate's own vote is a promise like any other; a pre-candidate promises nothing.
    if (how.preVote) state.outbox.now(request);
    else state.send(request);
  }
}

/**
 * A vote, or its denial. Its term is not above this node's, unless it is a pre-vote that was
 * granted.
 */
export function onVoteAnswer(state: RaftState, answer: PeerVoteAnswer): ElectionResult {
  const { request } = answer;
  const isCandidate = state.role === "pre-candidate" || state.role === "candidate";
  const [has, acknowledged] = [state.log.last.index, answer.acknowledged ?? 0];
  if (isCandidate && has < acknowledged) {
    // T3: a leader of the past knows better. This node must not be elected by voters that lag
    // behind.
    state.lost ??= { acknowledged, has };
    return "lost";
  }
  const isPresent = request.preVote
    ? state.role === "pre-candidate" && request.term === state.term + 1
    : state.role === "candidate" && request.term === state.term;
  if (!isPresent) return "undecided";
  // T3: a voter that has less than it acknowledged may elect a leader that lacks it, too.
  const hasLost = answer.lastIndex !== undefined && answer.lastIndex < (state.acknowledged.get(answer.from) ?? 0);
  state.votes.set(answer.from, answer.granted && !hasLost);
  return resultOf(state);
}

/** Only voters of the membership in force count, however many others have answered. */
function resultOf(state: RaftState): ElectionResult {
  const { voters } = state;
  const said = (vote: boolean) => voters.filter((id) => state.votes.get(id) === vote).length;
  if (said(true) >= majority(voters.length)) return "won";
  return said(false) >= majority(voters.length) ? "lost" : "undecided";
}

/**
 * The leader hands over (thesis section 3.10). Returns whether this node is to campaign at once.
 */
export function onTimeoutNow(state: RaftState, message: TimeoutNow): boolean {
  const { from, requestId, term } = message;
  if (term > state.term) state.becomeFollower(term, from);
  state.send({ type: "timeout_now_answer", to: from, requestId, term: state.term });
  return term === state.term && state.role !== "leader" && cannotCampaign(state) === undefined;
}
