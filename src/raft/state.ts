import { assert } from "../base/assert.js";
import { limits } from "../base/limits.js";
import { ReadQueue } from "./leader/read_index.js";
import type { RaftLog } from "./log.js";
import { type MembershipCodec, type MembershipHistory, votersOf } from "./membership/membership.js";
import type { InstallSnapshot, MessageSender, PeerRequest, Response } from "./messages.js";
import { Outbox } from "./outbox.js";
import type { Timing } from "./timing.js";
import type { Entry, HardState, IndexedMembership, LogPosition, SnapshotMeta } from "./types.js";

/**
 * The role of a node. A `pre-candidate` asks whether it would be elected before it disturbs the
 * others with a new term (thesis section 9.6).
 */
export type Role = "follower" | "pre-candidate" | "candidate" | "leader";

/** Counts messages that were refused for one kind of reason, and holds the last of them. */
export interface RefusalCount {
  readonly count: number;
  readonly latest: (MessageSender & { readonly detail: string }) | undefined;
}

const NO_REFUSALS: RefusalCount = { count: 0, latest: undefined };

/**
 * Whether a node's disk keeps up with the writes that the core hands out. `stuck`: a write has been
 * under way for longer than an election timeout. `suspect`: the disk was stuck a moment ago, and no
 * quick write has yet shown that it recovered.
 */
export type DiskState = "fit" | "stuck" | "suspect";

/**
 * The installation of a snapshot. While one is under way, the node applies nothing and does not
 * campaign (R13).
 */
export type Installation =
  | { readonly kind: "none" }
  /**
   * The snapshot is accepted, and being written. Until it is durable, no promise about the log
   * holds.
   */
  | { readonly kind: "writing"; readonly request: InstallSnapshot }
  /**
   * The snapshot is durable, and with it the log that starts at it. The state machine is loading
   * it.
   */
  | { readonly kind: "loading"; readonly request: InstallSnapshot };

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
  /** Whose requests this node acts on (T10). */
  readonly listensTo: "voters" | "everyone";
  readonly outbox = new Outbox();

  role: Role = "follower";
  /** The leader of the current term, as far as this node knows. */
  leader: string | undefined;
  /**
   * The one member that has acted as leader of the current term towards this node. It counts as the
   * leader for the whole term.
   */
  termLeader: string | undefined;
  /** Messages since the start that no correct member sends. */
  violations = NO_REFUSALS;
  /** Messages since the start of senders that are not members, as far as this node knows (T10). */
  strangers = NO_REFUSALS;
  /** Candidate, pre-candidate: the vote that each member gave or denied. */
  votes = new Map<string, boolean>();
  /** Whether the present candidacy is a pre-vote that did not wait for the election timeout. */
  isEarly = false;
  /** Whether this node has granted a vote or a pre-vote since it last thought of an early one. */
  hasGranted = false;
  /** Newest snapshot, taken here or installed; undefined when this node has none. */
  snapshot: LogPosition | undefined;
  /**
   * Whether this node's disk keeps up with its writes, as measured by the node that runs this core.
   */
  disk: DiskState = "fit";
  /**
   * Set when this node has less than it acknowledged (T3): it no longer votes, acknowledges or
   * campaigns.
   */
  lost: LostData | undefined;
  /**
   * Index of a committed membership that leaves this node out, as reported by a member: this node
   * does not campaign (T1).
   */
  removedAt: number | undefined;
  /**
   * The highest index, by member key, that each member has acknowledged to this node and that was
   * committed then. No later leader replaces those entries, so a member whose log ends below that
   * index has lost data (T3). Kept in memory only: a restart forgets it.
   */
  readonly acknowledged = new Map<string, number>();

  #term: number;
  #vote: string | undefined;
  #installation: Installation = { kind: "none" };
  /** The durable term and vote. */
  #durable: Pick<HardState, "term" | "vote">;
  /** Ticks since this node last heard from a leader, or voted, or campaigned. */
  #elapsedTicks = 0;
  #timeoutTicks: number;
  /** Ticks since this node last heard from a leader of any term. */
  #silentTicks: number;
  #votersOf: { readonly latest: IndexedMembership | undefined; readonly voters: readonly string[] } = NO_VOTERS;

  constructor(options: {
    id: string;
    log: RaftLog;
    memberships: MembershipHistory;
    codec: MembershipCodec;
    timing: Timing;
    listensTo: "voters" | "everyone" | undefined;
    hardState: HardState;
    snapshot: LogPosition | undefined;
  }) {
    this.id = options.id;
    this.log = options.log;
    this.memberships = options.memberships;
    this.codec = options.codec;
    this.timing = options.timing;
    this.listensTo = options.listensTo ?? (this.timing.isAutomatic ? "voters" : "everyone");
    this.snapshot = options.snapshot;
    this.#term = options.hardState.term;
    this.#vote = options.hardState.vote;
    this.#durable = options.hardState;
    this.#timeoutTicks = this.timing.drawTimeout();
    // With leases, a restart must not make this node forget that it may have promised a leader to
    // withhold its vote.
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

  get installation(): Installation {
    return this.#installation;
  }

  /**
   * The snapshot that is accepted and not yet the node's state. While it is pending, the node
   * applies nothing and does not campaign (R13).
   */
  get pendingSnapshot(): SnapshotMeta | undefined {
    return this.#installation.kind === "none" ? undefined : this.#installation.request.snapshot;
  }

  /** The pending snapshot while it is not durable: until it is, no promise about the log holds. */
  get unwrittenSnapshot(): SnapshotMeta | undefined {
    return this.#installation.kind === "writing" ? this.#installation.request.snapshot : undefined;
  }

  /** Starts to install the snapshot of a request, which this node has accepted. */
  beginInstalling(request: InstallSnapshot): void {
    this.#installation = { kind: "writing", request };
  }

  /** Records that the pending snapshot is durable. */
  snapshotWritten(snapshot: SnapshotMeta): void {
    const installation = this.#installation;
    const isDue = installation.kind === "writing" && installation.request.snapshot === snapshot;
    assert(isDue, "the pending snapshot was written", { snapshot: snapshot.index });
    this.#installation = { kind: "loading", request: installation.request };
  }

  /**
   * Records that the state machine has loaded the pending snapshot. Returns the request that
   * brought it, whose answer is due.
   */
  snapshotLoaded(snapshot: SnapshotMeta): InstallSnapshot {
    const installation = this.#installation;
    const isDue = installation.kind === "loading" && installation.request.snapshot === snapshot;
    assert(isDue, "the pending snapshot is installed, once it is durable", { snapshot: snapshot.index });
    this.#installation = { kind: "none" };
    return installation.request;
  }

  /** Keys of the voters in the membership in force. */
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
   * Whether a leader is alive as far as this node knows: it leads itself, or has heard from a
   * leader within the smallest election timeout. Then it grants no vote (thesis section 4.2.3).
   * Leases rely on that, so a higher term learnt from another member does not end it.
   */
  get hearsLeader(): boolean {
    if (!this.timing.isAutomatic) return false;
    return this.role === "leader" || this.#silentTicks < this.timing.electionTicks;
  }

  /**
   * Whether this node has heard from no leader for so long that its membership may be outdated
   * (T10).
   */
  get isForsaken(): boolean {
    return this.role !== "leader" && this.#silentTicks >= limits.strangerTimeouts * this.timing.electionTicks;
  }

  /**
   * Makes this node a follower. A higher term does that to any role (Raft section 5.1), and a
   * message of the current term's leader ends a candidacy.
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

  /** Counts a tick on a node that does not lead. */
  tick(): void {
    this.#elapsedTicks += 1;
    this.#silentTicks += 1;
  }

  /**
   * Starts a pre-vote, without a new term (thesis section 9.6). An early one leaves the election
   * timer as it is.
   */
  becomePreCandidate(isEarly = false): void {
    this.#beginCandidacy("pre-candidate", isEarly);
  }

  /** Starts a candidacy in a new term, with this node's own vote (Raft section 5.2). */
  becomeCandidate(): void {
    this.#term += 1;
    this.#vote = this.id;
    this.termLeader = undefined;
    this.#beginCandidacy("candidate", false);
  }

  #beginCandidacy(role: "pre-candidate" | "candidate", isEarly: boolean): void {
    assert(this.role !== "leader", "a leader does not campaign", { term: this.#term });
    assert(this.#installation.kind === "none", "a node with an unapplied snapshot does not campaign", { id: this.id });
    this.role = role;
    this.leader = undefined;
    this.votes = new Map([[this.id, true]]);
    this.isEarly = isEarly;
    if (isEarly) return;
    this.#elapsedTicks = 0;
    this.#timeoutTicks = this.timing.drawTimeout();
  }

  /**
   * Makes the winner of an election the leader. Its first act is to append a no-op (Raft section
   * 8).
   */
  becomeLeader(): void {
    assert(this.role === "candidate", "only a candidate becomes leader", { role: this.role });
    this.role = "leader";
    this.leader = this.termLeader = this.id;
    this.#silentTicks = this.timing.electionTicks;
  }

  /** Grants this node's vote in the current term, at most once (Raft section 5.2). */
  voteFor(candidate: string): void {
    assert(this.#vote === undefined || this.#vote === candidate, "one vote a term", { vote: this.#vote, candidate });
    this.#vote = candidate;
    this.#elapsedTicks = 0;
  }

  /** Counts a refused message that no correct member sends. */
  violated(sender: MessageSender, detail: string): void {
    this.violations = oneMore(this.violations, sender, detail);
  }

  /** Counts a refused message of a sender that is not a member. */
  strange(sender: MessageSender, detail: string): void {
    this.strangers = oneMore(this.strangers, sender, detail);
  }

  /** Appends an entry to the log. A configuration takes effect at once (Raft section 6). */
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
   * Sends a message that promises this node's current term and vote, and the log up to `promised`;
   * left out: nothing of the log. (A leader's or candidate's request promises its term, because it
   * acts in it.) The message goes out now if all that is durable, otherwise with the Ready that
   * makes it durable.
   */
  send(message: Response | PeerRequest, promised?: number): void {
    const isDurable = this.#durable.term === this.#term && this.#durable.vote === this.#vote;
    const isLogDurable =
      promised === undefined || (this.unwrittenSnapshot === undefined && promised <= this.log.persisted);
    if (isDurable && isLogDurable) this.outbox.now(message);
    else this.outbox.whenDurable(message);
  }

  get isTermDurable(): boolean {
    return this.#durable.term === this.#term;
  }

  /** Records that term and vote are durable. */
  hardStatePersisted({ term, vote }: HardState): void {
    this.#durable = { term, vote };
  }
}

function oneMore({ count }: RefusalCount, { from, address }: MessageSender, detail: string): RefusalCount {
  return { count: count + 1, latest: { from, ...(address !== undefined && { address }), detail } };
}

/** The record of a member that has less than it acknowledged (T3). */
export interface LostData {
  /** The member said that its log agrees with a leader's up to this index, durably. */
  readonly acknowledged: number;
  /** Last index of its log. */
  readonly has: number;
}

const NO_VOTERS = { latest: undefined, voters: [] };
