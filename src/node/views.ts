// The read-only view that a node offers of its core.
import type { ProgressInfo } from "../raft/leader/progress.js";
import type { LostData, Role } from "../raft/state.js";
import type { TermRange } from "../raft/term_ranges.js";
import type { Entry, IndexedMembership, LogPosition } from "../raft/types.js";

/** The extent of a node's log: boundary < applied <= commit <= last. */
export interface LogView {
  /** The position right before the first entry. */
  readonly boundary: LogPosition;
  readonly last: LogPosition;
  /** Highest index that the log holds and that is known to be committed. */
  readonly commit: number;
  readonly applied: number;
  /** Highest index that is durable on this node. */
  readonly persisted: number;
  /** Terms of the log, oldest first. */
  readonly ranges: readonly TermRange[];
  /** Returns the term of an entry or of the boundary; undefined outside of the log. */
  termAt(index: number): number | undefined;
  /**
   * Returns entries from `first` on; undefined when memory does not hold them.
   * @internal
   */
  entriesFrom(first: number, maxEntries: number, maxBytes: number): readonly Entry[] | undefined;
  /** First entry that memory holds. @internal */
  readonly firstInMemory: number;
  /** Bytes of the entries that memory holds. @internal */
  readonly windowBytes: number;
}

/** The core of a node. */
export interface RaftView {
  readonly term: number;
  readonly role: Role;
  /** Name of the term's leader, as far as this node knows. */
  readonly leader: string | undefined;
  readonly log: LogView;
  /** Newest snapshot, taken here or installed. */
  readonly snapshot: LogPosition | undefined;
  /** The membership in force. */
  readonly membership: IndexedMembership;
  /** Returns the membership in force at an index of the log. */
  membershipAt(index: number): IndexedMembership;
  /** Whether this node leads and has committed an entry of its own term. */
  readonly isEstablishedLeader: boolean;
  /** Name of the voter that takes leadership over. */
  readonly transferTarget: string | undefined;
  /** Whether an accepted snapshot is being installed. */
  readonly isInstalling: boolean;
  /** The other members, as the leader sees them; empty on other members. */
  readonly progress: readonly ProgressInfo[];
  /** Set when this node has less than it acknowledged (T3): it does not vote. */
  readonly lost: LostData | undefined;
  /** Index of the committed membership that leaves this node out. */
  readonly removedAt: number | undefined;
  /** Whether this node leads, or has heard from a leader within the smallest election timeout. */
  readonly hearsLeader: boolean;
}
