// The data types of Raft: entries, positions in the log, hard state, memberships and snapshot
// metadata.

/** The kind of an entry's data. */
export type EntryType = "command" | "no-op" | "configuration";

/** An entry of the replicated log. It is immutable: log, window and messages share it. */
export interface Entry {
  /** Position in the log, from 1. */
  readonly index: number;
  readonly term: number;
  readonly type: EntryType;
  /**
   * command: the application's own encoding. configuration: an encoded membership. no-op: empty.
   */
  readonly data: Uint8Array;
}

/**
 * Returns the bytes that every limit counts for an entry: its data, and an allowance for the fields
 * around it.
 */
export function entryBytes(entry: Entry): number {
  return entry.data.byteLength + ENTRY_OVERHEAD_BYTES;
}

export const ENTRY_OVERHEAD_BYTES = 32;

/**
 * Returns the entries from position `from` of the list, as many as fit: at most `maxEntries`, and
 * `maxBytes` unless the first one alone is larger.
 */
export function entriesWithin<Sent extends Entry>(
  entries: readonly Sent[],
  from: number,
  maxEntries: number,
  maxBytes: number,
): Sent[] {
  const fitting: Sent[] = [];
  let bytes = 0;
  for (let at = from; at < entries.length && fitting.length < maxEntries; at++) {
    const entry = entries[at]!;
    bytes += entryBytes(entry);
    if (fitting.length > 0 && bytes > maxBytes) break;
    fitting.push(entry);
  }
  return fitting;
}

/** A position in the log. Index 0 with term 0 is the position before the first entry. */
export interface LogPosition {
  readonly index: number;
  readonly term: number;
}

export const LOG_START: LogPosition = { index: 0, term: 0 };

/**
 * The state besides the log that a node must keep across restarts (Raft figure 2, "persistent
 * state").
 */
export interface HardState {
  /** Latest term seen. */
  readonly term: number;
  /** Member key (see ids.ts) of the candidate that got this node's vote in `term`. */
  readonly vote: string | undefined;
  /** Highest index known to be committed; a hint that may lag. */
  readonly commit: number;
}

export const INITIAL_HARD_STATE: HardState = { term: 0, vote: undefined, commit: 0 };

export type MemberRole = "voter" | "learner";

export interface Member {
  /** Name of the member, unique in its cluster at any time. */
  readonly id: string;
  /** host:port, or empty. */
  readonly address: string;
  readonly role: MemberRole;
  /**
   * Random name of the data directory that is the member (T1), in hexadecimal digits. Left out for
   * a given identity, which is assigned from outside and kept unique there.
   */
  readonly incarnation?: string | undefined;
  /** Marks a learner that the leader promotes to voter as soon as it has caught up (T4). */
  readonly wantsVote?: boolean | undefined;
}

/** The members of a cluster, ordered by id. Empty before the cluster is founded. */
export type Membership = readonly Member[];

/** A membership and the index of the entry that set it (0: given at the start, or none yet). */
export interface IndexedMembership {
  readonly index: number;
  readonly members: Membership;
}

/** A snapshot's metadata. */
export interface SnapshotMeta {
  /** Last index whose effect the snapshot includes ("lastIncludedIndex"). */
  readonly index: number;
  /** Term of that entry ("lastIncludedTerm"). */
  readonly term: number;
  /** Membership in force at `index`. */
  readonly membership: IndexedMembership;
}
