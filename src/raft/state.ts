import { assert } from "../base/assert.js";
import { ReadQueue } from "./leader/read_index.js";
import type { RaftLog } from "./log.js";
import { type MembershipCodec, type MembershipHistory, votersOf } from "./membership/membership.js";
import type { PeerRequest, Response } from "./messages.js";
import { Outbox } from "./outbox.js";
import type { Timing } from "./timing.js";
import type { Entry, HardState, IndexedMembership, LogPosition, SnapshotMeta } from "./types.js";

/**
 * `pre-candidate`: asks whether it would be elected, before it disturbs anybody with a new term
 * (thesis section 9.6).
 */
export type Role = "follower" | "pre-candidate" | "candidate" | "leader";

/** Messages that no correct member sends. */
export interface Violations {
  readonly count: number;
  readonly latest: { readonly from: string; readonly detail: string } | undefined;
}
/**
 * Whether a node's disk takes what the core hands out to be written. `stuck`: a write has been
 * under way for longer than an election timeout. `suspect`: it was stuck a moment ago, and no quick
 * write has shown since that it recovered.
 */
export type DiskState = "fit" | "stuck" | "suspect";

/**
 * The state that all roles share: Raft figure 2's state, and the transitions between roles. The
 * files named after the roles hold the rules.
 */
export class RaftState {
  /** Member key of this node (see ids.ts). */
  readonly id: string;
  readonly log: RaftLog;
  readonly memberships: MembershipHistory;
  readonly reads = new ReadQueue();
  readonly codec: MembershipCodec;
  readonly timing: Timing;
  readonly outbox = new Outbox();

  role: Role = "follower";
  /** The leader of the present term, as far as this node knows. */
  leader: string | undefined;
  /**
   * The one member that has acted as leader of the present term before this node, which counts as
   * that for the whole term.
   */
  termLeader: string | undefined;
  /** Messages that no correct member sends, since the start, and the last of them. */
  violations: Violations = { count: 0, latest: undefined };
  /** Candidate, pre-candidate: who said what. */
  votes = new Map<string, boolean>();
  /** Leader: index of the first entry of its own term. */
  termStart = 0;
  /** Newest snapshot, taken here or installed; undefined when there is none. */
  snapshot: LogPosition | undefined;
  /**
   * Accepted, and not yet the node's state. While there is one, nothing is applied and this node
   * does not campaign (R13).
   */
  pendingSnapshot: SnapshotMeta | undefined;
  /**
   * Whether this node's disk takes what is to be written, as the node that runs this core measures
   * it.
   */
  disk: DiskState = "fit";
  /**
   * Whether the snapshot that is pending is durable, and the log that starts at it: only the state
   * machine is not there yet.
   */
  isSnapshotDurable = false;
  /** This node has less than it acknowledged (T3): it votes, acknowledges and campaigns no more. */
  lost: LostData | undefined;
  /**
   * A membership that leaves this node out is committed at this index, as a member has told: it
   * does not campaign (T1).
   */
  removedAt: number | undefined;
  /**
   * The highest index that each member has acknowledged to this node and that was committed then,
   * by key. No later leader replaces those entries, so a member whose log ends before that has lost
   * data (T3). In memory only: a restart forgets it.
   */
  readonly acknowledged = new Map<string, number>();

  #term: number;
  #vote: string | undefined;
  /** Term and vote as they are on disk. */
  #durable: Pick<HardState, "term" | "vote">;
  /** Ticks since this node last heard from a leader, or voted, or campaigned. */
  #elapsedTicks = 0;
  #timeoutTicks: number;
  /** Ticks since it last heard from a leader, of whatever term. */
  #silentTicks: number;
  #votersOf: { readonly latest: IndexedMembership | undefined; readonly voters: readonly string[] } = NO_VOTERS;

  constructor(options: {
    id: string;
    log: RaftLog;
    memberships: MembershipHistory;
    codec: MembershipCodec;
    timing: Timing;
    hardState: HardState;
    snapshot: LogPosition | undefined;
  }) {
    this.id = options.id;
    this.log = options.log;
    this.memberships = options.memberships;
    this.codec = options.codec;
    this.timing = options.timing;
    this.snapshot = options.snapshot;
    this.#term = options.hardState.term;
    this.#vote = options.hardState.vote;
    this.#durable = options.hardState;
    this.#timeoutTicks = this.timing.drawTimeout();
    // With leases, a restart must not make this node forget that it may have promised a leader not
    // to vote.
    this.#silentTicks = this.timing.hasLeases ? 0 : this.timing.electionTicks;
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

  /**
   * A pending snapshot that is still to be made durable: until then no promise about the log holds.
   */
  get unwrittenSnapshot(): SnapshotMeta | undefined {
    return this.isSnapshotDurable ? undefined : this.pendingSnapshot;
  }

  /** Keys of the members that vote, by the membership in force. */
  get voters(): readonly string[] {
    const { latest } = this.memberships;
    if (this.#votersOf.latest !== latest) this.#votersOf = { latest, voters: votersOf(latest.members) };
    return this.#votersOf.voters;
  }

  get isVoter(): boolean {
    return this.voters.includes(this.id);
  }

  /** Whether the election timeout is over (Raft section 5.2). */
  get isTimedOut(): boolean {
    return this.#elapsedTicks >= this.#timeoutTicks;
  }

  /**
   * Whether a leader is alive as far as this node knows: it leads itself, or has heard from one
   * within the smallest election timeout. Then it gives no vote (thesis section 4.2.3). Leases
   * stand on that, so learning of a higher term from somebody else does not end it.
   */
  get hearsLeader(): boolean {
    if (!this.timing.isAutomatic) return false;
    return this.role === "leader" || this.#silentTicks < this.timing.electionTicks;
  }

  /**
   * Raft section 5.1: a higher term makes anyone a follower in it; hearing from the present term's
   * leader ends a candidacy.
   */
  becomeFollower(term: number, leader: string | undefined): void {
    assert(term >= this.#term, "terms never fall", { term, current: this.#term });
    if (leader !== undefined) this.removedAt = undefined;
    if (term > this.#term) {
      this.#term = term;
      this.#vote = undefined;
      this.termLeader = undefined;
    }
    if (this.role !== "follower") {
      this.#timeoutTicks = this.timing.drawTimeout();
      if (this.role === "leader") this.#elapsedTicks = 0;
    }
    this.role = "follower";
    this.leader = leader;
    if (leader !== undefined) this.termLeader = leader;
    // Figure 2: a candidate that does not get this node's vote must not keep it from campaigning
    // itself.
    if (leader !== undefined) this.#elapsedTicks = this.#silentTicks = 0;
    this.reads.fail();
  }

  /** Time has passed, and this node does not lead. */
  tick(): void {
    this.#elapsedTicks += 1;
    this.#silentTicks += 1;
  }

  /** Asks for votes without a new term. */
  becomePreCandidate(): void {
    this.#beginCandidacy("pre-candidate");
  }

  /** Raft section 5.2: a new term, with this node's own vote. */
  becomeCandidate(): void {
    this.#term += 1;
    this.#vote = this.id;
    this.termLeader = undefined;
    this.#beginCandidacy("candidate");
  }

  #beginCandidacy(role: "pre-candidate" | "candidate"): void {
    assert(this.role !== "leader", "a leader does not campaign", { term: this.#term });
    assert(this.pendingSnapshot === undefined, "a node with an unapplied snapshot does not campaign", { id: this.id });
    this.role = role;
    this.leader = undefined;
    this.votes = new Map([[this.id, true]]);
    this.#elapsedTicks = 0;
    this.#timeoutTicks = this.timing.drawTimeout();
  }

  /** The winner of an election. Its first act is to append a no-op (Raft section 8). */
  becomeLeader(): void {
    assert(this.role === "candidate", "only a candidate becomes leader", { role: this.role });
    this.role = "leader";
    this.leader = this.termLeader = this.id;
    this.#silentTicks = this.timing.electionTicks;
    this.termStart = this.log.last.index + 1;
  }

  /** Gives this node's vote for the present term (Raft section 5.2: at most one). */
  voteFor(candidate: string): void {
    assert(this.#vote === undefined || this.#vote === candidate, "one vote a term", { vote: this.#vote, candidate });
    this.#vote = candidate;
    this.#elapsedTicks = 0;
  }

  /** A member has sent a message that no correct member sends; it was refused. */
  violated(from: string, detail: string): void {
    this.violations = { count: this.violations.count + 1, latest: { from, detail } };
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

  /**
   * Sends a message that promises this node's present term and vote (a leader's or candidate's
   * request does: it acts in that term), and the log up to `index`: now if all that is durable,
   * else with the Ready that makes it so.
   */
  send(message: Response | PeerRequest, index = 0): void {
    const isDurable = this.#durable.term === this.#term && this.#durable.vote === this.#vote;
    const isLogDurable = index === 0 || (this.unwrittenSnapshot === undefined && index <= this.log.persisted);
    if (isDurable && isLogDurable) this.outbox.now(message);
    else this.outbox.whenDurable(message);
  }

  get isTermDurable(): boolean {
    return this.#durable.term === this.#term;
  }

  /** Term and vote are on disk. */
  hardStatePersisted({ term, vote }: HardState): void {
    this.#durable = { term, vote };
  }
}

/** A member has less than it acknowledged. */
export interface LostData {
  /** It said that its log agrees with a leader's up to here, durably. */
  readonly acknowledged: number;
  /** Its log ends here. */
  readonly has: number;
}

const NO_VOTERS = { latest: undefined, voters: [] };
