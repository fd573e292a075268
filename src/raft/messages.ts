import { counterProblem } from "../base/counters.js";
import { type Permission, unless } from "../base/permission.js";
import type { Entry, LogPosition, SnapshotMeta } from "./types.js";

// The messages of Raft: the requests and answers that peers exchange, and the checks of their form.

/**
 * A peer's request, as the core sees it. The caller of {@link Raft.step} chooses `requestId`, and
 * the answer carries it back so that the caller can match the two. The core does not interpret it.
 */
export type Request = AppendEntries | InstallSnapshot | RequestVote | TimeoutNow;

/** A request without its request id. */
export type Unaddressed<Message extends Request> = Omit<Message, "requestId">;
export type Response = AppendEntriesAnswer | InstallSnapshotAnswer | RequestVoteAnswer | TimeoutNowAnswer;

export interface RequestBase {
  /** Member key of the sender (see ids.ts). */
  readonly from: string;
  readonly requestId: number;
  /** The sender's term. */
  readonly term: number;
  /**
   * Index of the newest membership in the sender's log. By it, a receiver that does not know the
   * sender decides whether its own membership may be outdated; see admission.ts. Left out: 0.
   */
  readonly membershipIndex?: number | undefined;
  /** Network address that the request came from, for reports. Left out: not known. */
  readonly address?: string | undefined;
}

/** The sender of a message, as reports name it: by member key, and by network address if known. */
export type MessageSender = Pick<RequestBase, "from" | "address">;

export interface ResponseBase {
  readonly to: string;
  readonly requestId: number;
  /** The receiver's term. */
  readonly term: number;
}

/** Raft figure 2, AppendEntries. */
export interface AppendEntries extends RequestBase {
  readonly type: "append_entries";
  /** Position of the entry that precedes `entries`. */
  readonly prev: LogPosition;
  /** Consecutive, from prev.index + 1. */
  readonly entries: readonly Entry[];
  readonly leaderCommit: number;
  /**
   * The receiver has told this leader that its log agrees with the leader's up to this index,
   * durably: in this term, or in an earlier term for entries that were committed then. No later
   * leader replaces those, so a receiver whose log ends below this index has lost data (T3). Left
   * out: 0.
   */
  readonly acknowledged?: number | undefined;
  /** A refusal must change nothing, not even the receiver's term. Left out: false. */
  readonly isConditional?: boolean | undefined;
}

export type AppendEntriesAnswer = ResponseBase & AppendResult;

/** The follower's decision about the entries. */
export type AppendResult = AppendAccepted | AppendRejected;

export interface AppendAccepted {
  readonly type: "append_entries_answer";
  readonly outcome: "accepted";
  /**
   * The log agrees with the leader's up to this index, durably. 0 while a received snapshot is not
   * durable: the follower can promise no more then than that both logs begin alike.
   */
  readonly matchIndex: number;
  /** Last index of the follower's log. */
  readonly lastIndex: number;
}

export interface AppendRejected {
  readonly type: "append_entries_answer";
  readonly outcome: "rejected";
  readonly rejection: AppendRejection;
  /** Last index of the follower's log. */
  readonly lastIndex: number;
}

/**
 * The reason to reject entries. `safety`: the sender does something that no correct leader does;
 * see the proto's comment. `lost`: this node has less than it acknowledged, and no longer votes or
 * acknowledges (T3). `not_member`: the sender is not a voter, as far as this node knows (T10).
 */
export type AppendRejection =
  | { readonly reason: "stale_term" | "lost" | "not_member"; readonly detail: string }
  | {
      readonly reason: "safety";
      readonly detail: string;
      /**
       * The committed entry of the follower that an entry contradicts, and the first index that is
       * not committed there.
       */
      readonly contradicted?: LogConflict | undefined;
    }
  | ({ readonly reason: "log_mismatch"; readonly detail: string } & LogConflict);

/** The follower's view of the position where its log does not agree with the leader's. */
export interface LogConflict {
  /** Term of the follower's entry at prev.index; undefined when its log is shorter. */
  readonly conflictTerm: number | undefined;
  /** The first index that the leader should try next. */
  readonly conflictIndex: number;
}

/**
 * Raft figure 13, in one request: the whole snapshot has arrived, is verified, and is durable under
 * a temporary name.
 */
export interface InstallSnapshot extends RequestBase {
  readonly type: "install_snapshot";
  readonly snapshot: SnapshotMeta;
}

export type InstallSnapshotAnswer = ResponseBase & { readonly type: "install_snapshot_answer" } & InstallResult;

/** The follower's decision about a snapshot. */
export type InstallResult =
  | {
      /**
       * installed: the snapshot is now the node's state. already_committed: the node has committed
       * that index already.
       */
      readonly outcome: "installed" | "already_committed";
      /** The log agrees with the leader's up to this index. */
      readonly matchIndex: number;
      readonly detail: string;
    }
  | {
      /** stale_term: the sender no longer leads. safety: as for {@link AppendRejection}. */
      readonly outcome: "stale_term" | "safety";
      readonly detail: string;
    };

/** Raft figure 2, RequestVote; with `preVote` thesis section 9.6. */
export interface RequestVote extends RequestBase {
  readonly type: "request_vote";
  /** The candidate's last log entry. */
  readonly last: LogPosition;
  readonly preVote: boolean;
  /**
   * The receiver must consider this request even while a leader is alive: that leader has asked for
   * it, or an operator has (thesis sections 3.10 and 4.2.3).
   */
  readonly leadershipTransfer: boolean;
}

export interface RequestVoteAnswer extends ResponseBase {
  readonly type: "request_vote_answer";
  readonly granted: boolean;
  /**
   * Last index of the voter's log. A candidate that knows that the voter acknowledged more does not
   * count its vote (T3). Left out: not known.
   */
  readonly lastIndex?: number | undefined;
  /**
   * The candidate has acknowledged entries up to this index to the voter, as
   * {@link AppendEntries.acknowledged} says. A candidate whose log ends below this index has lost
   * data (T3). Left out or 0: the voter knows of none.
   */
  readonly acknowledged?: number | undefined;
}

/** Leadership transfer (thesis section 3.10): the receiver starts an election at once. */
export interface TimeoutNow extends RequestBase {
  readonly type: "timeout_now";
}

export interface TimeoutNowAnswer extends ResponseBase {
  readonly type: "timeout_now_answer";
}

/**
 * A request of this node to a peer. The sender hands the answer to {@link Raft.receive}, and need
 * not report a lost request.
 */
export type PeerRequest = PeerAppend | Addressed<RequestVote> | Addressed<TimeoutNow>;

export type Addressed<Message extends Request> = Omit<Message, "requestId"> & { readonly to: string };

export interface PeerAppend extends Addressed<AppendEntries> {
  /** Number of this message among all that this leader has sent in its term, from 1. */
  readonly round: number;
  /** The answer must wait until the receiver has applied what is committed. Left out: false. */
  readonly awaitsApplied?: boolean | undefined;
}

/** Whether an outgoing message is an answer, and not a request. */
export function isAnswer(message: Response | PeerRequest): message is Response {
  return "requestId" in message;
}

/**
 * A peer's answer to a {@link PeerRequest}. Everything in `request` comes from the sender's own
 * record of its request.
 */
export type PeerAnswer = PeerAppendAnswer | PeerVoteAnswer | PeerTimeoutNowAnswer;

export type PeerAppendAnswer = AppendResult & {
  readonly from: string;
  /** The receiver's term. */
  readonly term: number;
  /** After {@link PeerAppend.awaitsApplied}: the peer has applied its log up to here. */
  readonly appliedIndex?: number | undefined;
  readonly request: {
    readonly term: number;
    readonly round: number;
    readonly prevIndex: number;
    /** {@link AppendEntries.acknowledged} of the request. */
    readonly acknowledged?: number | undefined;
  };
};

export interface PeerVoteAnswer extends Omit<RequestVoteAnswer, "to" | "requestId"> {
  readonly from: string;
  readonly request: { readonly term: number; readonly preVote: boolean };
}

export interface PeerTimeoutNowAnswer extends Omit<TimeoutNowAnswer, "to" | "requestId"> {
  readonly from: string;
}

/**
 * Whether a request is well-formed; refused when no correct peer sends it. The receiver of outside
 * messages checks this before {@link Raft.step}, which asserts it of AppendEntries, and thereby
 * holds every counter to its bounds (T6).
 */
export function wellFormed(request: Unnumbered<Request>): Permission {
  return unless(requestProblem(request));
}

function requestProblem(request: Unnumbered<Request>): string | undefined {
  const problem = leaderTermProblem(request.term);
  if (problem !== undefined) return problem;
  switch (request.type) {
    case "append_entries":
      return appendProblem(request);
    case "request_vote":
      return positionProblem(request.last, "last_log");
    default:
      return undefined;
  }
}

type Unnumbered<Message extends Request> = Message extends Request ? Omit<Message, "requestId"> : never;

/** Describes why no leader or candidate acts in this term; undefined when one may. */
export function leaderTermProblem(term: number): string | undefined {
  if (term === 0) return "the leader's term must be above 0";
  const problem = counterProblem(term, "termMax", 1);
  return problem === undefined ? undefined : `term is ${problem}`;
}

function positionProblem({ index, term }: LogPosition, name: string): string | undefined {
  const wrongIndex = counterProblem(index, "indexMax");
  if (wrongIndex !== undefined) return `${name}_index is ${wrongIndex}`;
  const wrongTerm = counterProblem(term, "termMax");
  return wrongTerm === undefined ? undefined : `${name}_term is ${wrongTerm}`;
}

/** Describes what is wrong with an AppendEntries of a possible term; undefined when nothing is. */
function appendProblem(message: Unnumbered<AppendEntries>): string | undefined {
  const { prev, entries } = message;
  const problem = positionProblem(prev, "prev_log");
  if (problem !== undefined) return problem;
  const wrongCommit = counterProblem(message.leaderCommit, "indexMax");
  if (wrongCommit !== undefined) return `leader_commit is ${wrongCommit}`;
  const wrongMatch = counterProblem(message.acknowledged ?? 0, "indexMax");
  if (wrongMatch !== undefined) return `acknowledged_index is ${wrongMatch}`;
  if ((prev.index === 0) !== (prev.term === 0)) {
    return `prev_log_index ${prev.index} and prev_log_term ${prev.term} must both be 0 or both be above 0`;
  }
  let { index, term } = prev;
  for (const entry of entries) {
    if (entry.index !== index + 1) return `entry index ${entry.index} does not follow ${index}`;
    if (entry.term < term) return `term ${entry.term} of entry ${entry.index} is below the term ${term} before it`;
    if (entry.term === 0) return `term of entry ${entry.index} must be above 0`;
    ({ index, term } = entry);
  }
  if (term > message.term) return `term ${term} of entry ${index} is above the leader's term ${message.term}`;
  // No entry's term is above the leader's, so only the last index is still unchecked.
  const wrongLast = counterProblem(index, "indexMax");
  return wrongLast === undefined ? undefined : `the last entry's index is ${wrongLast}`;
}
