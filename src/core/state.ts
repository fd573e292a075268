import { assert } from "./invariants.js";
import type { RaftLog } from "./log.js";
import { type MembershipCodec, type MembershipHistory, votersOf } from "./membership.js";
import type { Response } from "./messages.js";
import { ReadQueue } from "./read_index.js";
import type { Entry, HardState, LogPosition, SnapshotMeta } from "./types.js";

export type Role = "follower" | "candidate" | "leader";

/** What the roles share: Raft figure 2's state, and the transitions between roles. The rules themselves are in the files named after the roles. */
export class RaftState {
  readonly id: string;
  readonly log: RaftLog;
  readonly memberships: MembershipHistory;
  readonly reads = new ReadQueue();
  readonly codec: MembershipCodec;

  role: Role = "follower";
  /** The leader of the present term, as far as this node knows. */
  leader: string | undefined;
  /** Candidate: those that voted for this node. */
  votes = new Set<string>();
  /** Leader: index of the first entry of its own term. */
  termStart = 0;
  /** Newest snapshot, taken here or installed; undefined when there is none. */
  snapshot: LogPosition | undefined;
  /** Accepted, and not yet the node's state. While there is one, nothing is applied and this node does not campaign (rule 13). */
  pendingSnapshot: SnapshotMeta | undefined;
  /** Ticks since this node last heard from a leader, or voted. */
  elapsedTicks = 0;
  readonly outbox: Response[] = [];

  #term: number;
  #vote: string | undefined;

  constructor(options: {
    id: string;
    log: RaftLog;
    memberships: MembershipHistory;
    codec: MembershipCodec;
    hardState: HardState;
    snapshot: LogPosition | undefined;
  }) {
    this.id = options.id;
    this.log = options.log;
    this.memberships = options.memberships;
    this.codec = options.codec;
    this.snapshot = options.snapshot;
    this.#term = options.hardState.term;
    this.#vote = options.hardState.vote;
    assert(this.#term >= this.log.last.term, "the term is at least that of the last entry", {
      term: this.#term,
      lastTerm: this.log.last.term,
    });
  }

  get term(): number {
    return this.#term;
  }

  get vote(): string | undefined {
    return this.#vote;
  }

  get hardState(): HardState {
    return { term: this.#term, vote: this.#vote, commit: this.log.commit };
  }

  get voters(): string[] {
    return votersOf(this.memberships.latest.members);
  }

  /** Raft section 5.1: a higher term makes anyone a follower in it; hearing from the present term's leader ends a candidacy. */
  becomeFollower(term: number, leader: string | undefined): void {
    assert(term >= this.#term, "terms never fall", { term, current: this.#term });
    if (term > this.#term) {
      this.#term = term;
      this.#vote = undefined;
    }
    this.role = "follower";
    this.leader = leader;
    // Figure 2: a candidate that does not get this node's vote must not keep it from campaigning itself.
    if (leader !== undefined) this.elapsedTicks = 0;
    this.reads.fail();
  }

  /** Raft section 5.2: a new term, with this node's own vote. */
  becomeCandidate(): void {
    assert(this.role !== "leader", "a leader does not campaign", { term: this.#term });
    assert(this.pendingSnapshot === undefined, "a node with an unapplied snapshot does not campaign", { id: this.id });
    this.#term += 1;
    this.#vote = this.id;
    this.role = "candidate";
    this.leader = undefined;
    this.votes = new Set([this.id]);
    this.elapsedTicks = 0;
  }

  /** The winner of an election. Its first act is to append a no-op (Raft section 8). */
  becomeLeader(): void {
    assert(this.role === "candidate", "only a candidate becomes leader", { role: this.role });
    this.role = "leader";
    this.leader = this.id;
    this.termStart = this.log.last.index + 1;
  }

  /** Gives this node's vote for the present term (Raft section 5.2: at most one). */
  voteFor(candidate: string): void {
    assert(this.#vote === undefined || this.#vote === candidate, "one vote a term", { vote: this.#vote, candidate });
    this.#vote = candidate;
    this.elapsedTicks = 0;
  }

  /** Adds an entry to the log; a configuration is in force from here on (Raft section 6). */
  append(entry: Entry): void {
    this.log.append(entry);
    if (entry.type === "configuration") {
      this.memberships.append({ index: entry.index, members: this.codec.decode(entry.data) });
    }
  }

  /** Removes the entries above `index`, and the configurations among them. */
  truncateAfter(index: number): void {
    this.log.truncateAfter(index);
    this.memberships.truncateAfter(index);
  }
}
