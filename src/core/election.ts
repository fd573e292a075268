import type { RequestVote, RequestVoteAnswer } from "./messages.js";
import { majority } from "./quorum.js";
import type { RaftState } from "./state.js";
import type { LogPosition } from "./types.js";

/** The receiver's side of RequestVote (Raft figure 2, sections 5.2 and 5.4.1) and of pre-vote (thesis section 9.6). */
export function onRequestVote(state: RaftState, message: RequestVote): RequestVoteAnswer {
  if (!message.preVote && message.term > state.term) state.becomeFollower(message.term, undefined);
  const granted = message.preVote ? wouldVote(state, message) : canVote(state, message);
  if (granted && !message.preVote) state.voteFor(message.from);
  return {
    type: "request_vote_answer",
    to: message.from,
    requestId: message.requestId,
    // A granted pre-vote carries the term that it is for.
    term: granted ? message.term : state.term,
    granted,
  };
}

function canVote(state: RaftState, message: RequestVote): boolean {
  if (message.term < state.term) return false;
  if (state.vote !== undefined && state.vote !== message.from) return false;
  return isUpToDate(message.last, state.log.last);
}

function wouldVote(state: RaftState, message: RequestVote): boolean {
  return message.term > state.term && isUpToDate(message.last, state.log.last);
}

/** Raft section 5.4.1: the log with the later last term is more up-to-date; with equal terms the longer one. */
function isUpToDate(candidate: LogPosition, own: LogPosition): boolean {
  return candidate.term > own.term || (candidate.term === own.term && candidate.index >= own.index);
}

/** Why this node cannot campaign now; undefined when it can. */
export function cannotCampaign(state: RaftState): string | undefined {
  const { voters } = state;
  if (state.pendingSnapshot !== undefined) {
    return `the snapshot up to ${state.pendingSnapshot.index} is not installed yet`;
  }
  if (!voters.includes(state.id)) return `node ${state.id} is not a voter of this cluster`;
  if (voters.length > 1) {
    return `elections among several voters (${voters.join(", ")}) are not implemented yet`;
  }
  return undefined;
}

/** Starts an election (Raft section 5.2); {@link cannotCampaign} must have said nothing. Returns whether it is won already. */
export function campaign(state: RaftState): boolean {
  state.becomeCandidate();
  return state.votes.size >= majority(state.voters.length);
}
