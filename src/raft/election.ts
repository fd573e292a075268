import { exhaustion } from "../base/counters.js";
import { nameOf } from "../base/ids.js";
import { ALLOWED, type Permission } from "../base/permission.js";
import { majority } from "./membership/quorum.js";
import type { PeerVoteAnswer, RequestVote, TimeoutNow } from "./messages.js";
import type { RaftState } from "./state.js";
import type { LogPosition } from "./types.js";

// Elections: votes, pre-votes and candidacies (Raft section 5.2; thesis chapter 4 and section 9.6).

/** The state of an election: `undecided` until a majority has granted or denied its vote. */
export type ElectionResult = "won" | "lost" | "undecided";

/**
 * Answers a RequestVote (Raft figure 2, sections 5.2 and 5.4.1) or a pre-vote (thesis section 9.6).
 */
export function onRequestVote(state: RaftState, message: RequestVote): void {
  const { from, requestId, preVote } = message;
  const granted = isGranted(state, message);
  if (granted) giveWay(state, message);
  // A granted pre-vote carries the term that it asks for.
  const term = granted ? message.term : state.term;
  const lastIndex = state.log.last.index;
  const acknowledged = state.acknowledged.get(from) ?? 0;
  const answer = { type: "request_vote_answer", to: from, requestId, term, granted, lastIndex, acknowledged } as const;
  // A pre-vote promises nothing.
  if (preVote) state.outbox.now(answer);
  else state.send(answer);
}

/**
 * Lets a node that this one has granted a vote or a pre-vote go first; see
 * {@link preCampaignEarly}. Of two nodes that ask early, the one with the lower key goes first.
 */
function giveWay(state: RaftState, { from }: RequestVote): void {
  state.hasGranted = true;
  const isRival = state.role === "pre-candidate" && state.isEarly;
  if (isRival && from < state.id) state.becomeFollower(state.term, undefined);
}

function isGranted(state: RaftState, message: RequestVote): boolean {
  // T3: this node may have lost its vote as well as its entries.
  if (state.lost !== undefined) return false;
  // Thesis section 4.2.3: a node that hears from a leader does not even adopt the term, or a
  // removed member could depose that leader.
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
 * Whether this node grants a pre-vote. A node whose disk is stuck denies it: its vote could not
 * become durable, so the candidate would raise the term, wait in vain for the vote, and raise the
 * term again. It grants the next pre-vote after the stuck write has ended.
 */
function wouldVote(state: RaftState, message: RequestVote): boolean {
  return state.disk !== "stuck" && message.term > state.term && isUpToDate(message.last, state.log.last);
}

/**
 * Whether the candidate's log is at least as up-to-date as this node's: the later last term wins;
 * with equal terms, the longer log (Raft section 5.4.1).
 */
function isUpToDate(candidate: LogPosition, own: LogPosition): boolean {
  return candidate.term > own.term || (candidate.term === own.term && candidate.index >= own.index);
}

/**
 * Whether this node may campaign now. A leader that resigned because of its disk must not regain
 * leadership while the disk is slow (T8), neither by its own timer nor because a leader hands over
 * to it.
 */
export function mayCampaign(state: RaftState): Permission {
  if (state.disk === "suspect" && state.timing.isAutomatic) {
    return { refused: "a write to its log was stuck a moment ago" };
  }
  return mayLead(state);
}

function mayLead(state: RaftState): Permission {
  if (state.pendingSnapshot !== undefined) {
    return { refused: `the snapshot up to ${state.pendingSnapshot.index} is not installed yet` };
  }
  const id = nameOf(state.id);
  if (state.lost !== undefined) {
    return { refused: `node ${id} has lost data that it acknowledged, up to ${state.lost.acknowledged}` };
  }
  if (state.memberships.latest.members.length === 0) return { refused: `node ${id} does not know any members yet` };
  if (state.removedAt !== undefined) {
    return { refused: `node ${id} was removed from this cluster at index ${state.removedAt}` };
  }
  const exhausted = exhaustion(state.term, state.log.last.index);
  if (exhausted !== undefined) return { refused: exhausted };
  // A candidate must write its vote, and a leader its first entry.
  if (state.disk === "stuck" && state.timing.isAutomatic) {
    return { refused: "a write to its log has not ended for longer than an election timeout" };
  }
  if (!mayBeNeeded(state)) return { refused: `node ${id} is not a voter of this cluster` };
  return ALLOWED;
}

/**
 * Whether this node's candidacy may be needed. Voters campaign: nodes whose own directory is a
 * voter by a membership in their own log or snapshot (T1). So does a node that a change removes as
 * a voter, as long as that change may be uncommitted, because it may be the only node that can
 * commit it (thesis section 4.2.2, figure 4.6). Its own vote does not count then.
 */
function mayBeNeeded({ id, memberships, log }: RaftState): boolean {
  return memberships.mayVote(id, log.commit);
}

/** Whether this node may campaign at once on an operator's command. */
export function mayCampaignNow(state: RaftState): Permission {
  const hasPeers = state.voters.some((id) => id !== state.id);
  // This node has promised to withhold its own vote, too.
  if (state.timing.hasLeases && state.hearsLeader && hasPeers) {
    return {
      refused:
        "the cluster uses leases, and a leader may be alive: hand leadership over, or wait for an election timeout",
    };
  }
  // The operator may know that the disk has recovered.
  return mayLead(state);
}

/**
 * Starts a pre-vote: asks the voters whether they would elect this node. The caller has checked
 * that this node may campaign; see {@link mayCampaign}.
 */
export function preCampaign(state: RaftState): ElectionResult {
  state.becomePreCandidate();
  askForVotes(state, { term: state.term + 1, preVote: true, leadershipTransfer: false });
  return resultOf(state);
}

/**
 * Asks for pre-votes before the election timeout is over, or decides about those that an earlier
 * call asked for. A node calls this from time to time after its start, until it hears of a leader:
 * when a whole cluster is started again, nobody leads, and waiting for a leader is in vain.
 *
 * A leader that lives must not lose its place because a majority of the others was started again.
 * So one denial ends an early pre-vote, and the silent voters get the time until the next call to
 * deny. Nodes that were started together must seldom compete, or they split the votes: a node that
 * has just granted a vote sits one call out, and gives way to a rival with a lower key.
 */
export function preCampaignEarly(state: RaftState): ElectionResult {
  if (!mayCampaignEarly(state)) return "undecided";
  const hasGranted = state.hasGranted;
  state.hasGranted = false;
  if (state.role === "pre-candidate" && majorityOf(state) === "won") return "won";
  if (hasGranted) return "undecided";
  state.becomePreCandidate(true);
  askForVotes(state, { term: state.term + 1, preVote: true, leadershipTransfer: false });
  return resultOf(state);
}

function mayCampaignEarly(state: RaftState): boolean {
  const { role, leader, isEarly, timing } = state;
  // A candidacy that the timer or an operator began takes its own time.
  const isFree = role === "follower" || (role === "pre-candidate" && isEarly);
  // With leases, a node that was just started may have promised a leader to withhold its vote.
  if (!timing.isAutomatic || !isFree || leader !== undefined || state.hearsLeader) return false;
  return "allowed" in mayCampaign(state);
}

/** Starts an election (Raft section 5.2). The caller has checked that this node may campaign. */
export function campaign(state: RaftState, { isTransfer }: { isTransfer: boolean }): ElectionResult {
  state.becomeCandidate();
  askForVotes(state, { term: state.term, preVote: false, leadershipTransfer: isTransfer });
  return resultOf(state);
}

function askForVotes(state: RaftState, how: Pick<RequestVote, "term" | "preVote" | "leadershipTransfer">): void {
  const { index, term } = state.log.last;
  for (const to of state.voters) {
    if (to === state.id) continue;
    const membershipIndex = state.memberships.latest.index;
    const request = {
      type: "request_vote",
      from: state.id,
      to,
      last: { index, term },
      membershipIndex,
      ...how,
    } as const;
    // A candidate's own vote is a promise and must be durable; a pre-candidate promises nothing.
    if (how.preVote) state.outbox.now(request);
    else state.send(request);
  }
}

/**
 * Counts a granted or denied vote. Its term is not above this node's, except for a granted
 * pre-vote.
 */
export function onVoteAnswer(state: RaftState, answer: PeerVoteAnswer): ElectionResult {
  const { request } = answer;
  const isCandidate = state.role === "pre-candidate" || state.role === "candidate";
  const [has, acknowledged] = [state.log.last.index, answer.acknowledged ?? 0];
  if (isCandidate && has < acknowledged) {
    // T3: a former leader knows that this node had more. Voters that lag behind must not elect it.
    // An early candidate leaves the verdict to a leader that lives, which then knows of it, too.
    if (!state.isEarly) state.lost ??= { acknowledged, has };
    return "lost";
  }
  const isPresent = request.preVote
    ? state.role === "pre-candidate" && request.term === state.term + 1
    : state.role === "candidate" && request.term === state.term;
  if (!isPresent) return "undecided";
  // T3: a voter that has less than it acknowledged may elect a leader that lacks those entries,
  // too.
  const hasLost = answer.lastIndex !== undefined && answer.lastIndex < (state.acknowledged.get(answer.from) ?? 0);
  state.votes.set(answer.from, answer.granted && !hasLost);
  return resultOf(state);
}

/** Returns the state of the election. */
function resultOf(state: RaftState): ElectionResult {
  if (!state.isEarly) return majorityOf(state);
  const { voters, votes } = state;
  if (voters.some((id) => votes.get(id) === false)) return "lost";
  return voters.every((id) => votes.get(id) === true) ? "won" : "undecided";
}

/**
 * Returns the majority's decision so far. Only voters of the membership in force count, even when
 * other members have answered.
 */
function majorityOf(state: RaftState): ElectionResult {
  const { voters } = state;
  const said = (vote: boolean) => voters.filter((id) => state.votes.get(id) === vote).length;
  if (said(true) >= majority(voters.length)) return "won";
  return said(false) >= majority(voters.length) ? "lost" : "undecided";
}

/**
 * Answers the leader's TimeoutNow (thesis section 3.10). Returns whether this node must campaign at
 * once.
 */
export function onTimeoutNow(state: RaftState, message: TimeoutNow): boolean {
  const { from, requestId, term } = message;
  if (term > state.term) state.becomeFollower(term, from);
  state.send({ type: "timeout_now_answer", to: from, requestId, term: state.term });
  return term === state.term && state.role !== "leader" && "allowed" in mayCampaign(state);
}
