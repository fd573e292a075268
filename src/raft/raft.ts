import { assert } from "../base/assert.js";
import { nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { ALLOWED, type Permission } from "../base/permission.js";
import { type Fault, faultOf, type RequestFacts, refuseAnswer, refuseInadmissible } from "./admission.js";
import {
  campaign,
  type ElectionResult,
  mayCampaign,
  mayCampaignNow,
  onRequestVote,
  onTimeoutNow,
  onVoteAnswer,
  preCampaign,
  preCampaignEarly,
} from "./election.js";
import { answerInstalled, onAppendEntries, onInstallSnapshot } from "./follower.js";
import { Leader, type LeaderLimits } from "./leader/leader.js";
import { infoOf, type ProgressInfo } from "./leader/progress.js";
import type { ReadState } from "./leader/read_index.js";
import type { LogRead, SendSizes, SnapshotSend, TransferOutcome } from "./leader/replication.js";
import { type LogLimits, type LogStart, RaftLog } from "./log.js";
import { type MembershipCodec, MembershipHistory, votersOf } from "./membership/membership.js";
import type { MembershipChange } from "./membership/membership_change.js";
import type { PeerAnswer, PeerRequest, Request, Response } from "./messages.js";
import type { ChangeProposal, Proposal } from "./raft_answers.js";
import type { Ready } from "./ready.js";
import { ReadyStage } from "./ready_stage.js";
import { type DiskState, type LostData, RaftState, type RefusalCount, type Role } from "./state.js";
import { Timing, type TimingOptions } from "./timing.js";
import type { Entry, HardState, IndexedMembership, LogPosition, Membership, SnapshotMeta } from "./types.js";

/** Raft as a pure state machine, and the answers that it gives to its embedder. */
export type { ChangeProposal, ProgressInfo, Proposal };

/** Limits of the core: those of a leader, and those of its log in memory. */
export type RaftLimits = LeaderLimits & LogLimits;

export interface RaftOptions extends TimingOptions {
  /** Member key of this node (see ids.ts). */
  readonly id: string;
  readonly codec: MembershipCodec;
  readonly hardState: HardState;
  readonly log: LogStart;
  /** Newest snapshot; undefined when the node has none. */
  readonly snapshot: LogPosition | undefined;
  /**
   * The membership in force at the log's boundary or at the newest snapshot, then those that
   * entries above it set, ascending by index.
   */
  readonly memberships: readonly IndexedMembership[];
  /**
   * Whose requests this node acts on (T10). Default: those of voters with automatic elections;
   * those of everyone with manual ones, because then the embedder decides who leads.
   */
  readonly listensTo?: "voters" | "everyone" | undefined;
  /** Overrides limits of limits.ts. */
  readonly limits?: Partial<RaftLimits> | undefined;
  /**
   * Without it, a follower gets a snapshot only when the log no longer has the entries that it
   * lacks.
   */
  readonly sizes?: SendSizes | undefined;
}

/**
 * Runs Raft as a state machine. {@link step} and {@link receive} take in the requests and answers
 * of peers; {@link tick}, {@link propose}, {@link changeMembership}, {@link campaign},
 * {@link transferLeadership} and {@link readIndex} change its state too. {@link ready} hands out
 * the work that the node must carry out; {@link written} and {@link applied} report that it is
 * done. The take... methods hand out work that depends on no pending write. Nothing here waits,
 * reads a clock, draws a random number except by {@link RaftOptions.random}, or does I/O.
 */
export class Raft {
  readonly #state: RaftState;
  readonly #limits: RaftLimits;
  readonly #sizes: SendSizes | undefined;
  #leader: Leader | undefined;
  readonly #stage: ReadyStage;

  constructor(options: RaftOptions) {
    const [base, ...later] = options.memberships;
    assert(base !== undefined, "a membership is given", { id: options.id });
    const memberships = new MembershipHistory(base);
    for (const membership of later) memberships.append(membership);
    this.#limits = { ...limits, ...options.limits };
    this.#sizes = options.sizes;
    this.#state = new RaftState({
      id: options.id,
      log: new RaftLog(options.log, this.#limits),
      memberships,
      codec: options.codec,
      timing: new Timing(options),
      listensTo: options.listensTo,
      hardState: options.hardState,
      snapshot: options.snapshot,
    });
    this.#stage = new ReadyStage(this.#state);
  }

  get term(): number {
    return this.#state.term;
  }

  get role(): Role {
    return this.#state.role;
  }

  /** Name of the current term's leader, as far as this node knows. */
  get leader(): string | undefined {
    const { leader } = this.#state;
    return leader === undefined ? undefined : nameOf(leader);
  }

  /**
   * The data that this node acknowledged and lost; while it is set, the node neither votes nor
   * acknowledges (T3).
   */
  get lost(): LostData | undefined {
    return this.#state.lost;
  }

  /** Index of the committed membership that leaves this node out, as reported by a member. */
  get removedAt(): number | undefined {
    return this.#state.removedAt;
  }

  /**
   * Records a member's report that a membership committed at `index` leaves this node out. The node
   * stops campaigning until it hears from a leader again. Changes nothing when this node knows of a
   * later membership.
   */
  removed(index: number): void {
    const state = this.#state;
    if (index <= state.memberships.latest.index || state.role === "leader") return;
    state.removedAt = index;
    if (state.role !== "follower") state.becomeFollower(state.term, undefined);
  }

  /** The log. Callers read it, and change it only through this class. */
  get log(): RaftLog {
    return this.#state.log;
  }

  /** Newest snapshot, taken here or installed. */
  get snapshot(): LogPosition | undefined {
    return this.#state.snapshot;
  }

  /** The membership in force: the latest one in the log. */
  get membership(): IndexedMembership {
    return this.#state.memberships.latest;
  }

  /** Returns the membership in force at an index of the log. */
  membershipAt(index: number): IndexedMembership {
    return this.#state.memberships.at(index);
  }

  /**
   * Whether this node leads and has committed an entry of its own term, so that it can answer
   * reads.
   */
  get isEstablishedLeader(): boolean {
    return this.#leader?.isEstablished === true;
  }

  /** Name of the voter that this leader is handing leadership over to. */
  get transferTarget(): string | undefined {
    const target = this.#leader?.leadershipTransfer.target;
    return target === undefined ? undefined : nameOf(target);
  }

  /** Whether a snapshot is accepted and not installed yet. */
  get isInstalling(): boolean {
    return this.#state.installation.kind !== "none";
  }

  /**
   * Returns the progress of each other member, as this leader knows it; empty when this node does
   * not lead.
   */
  get progress(): ProgressInfo[] {
    return [...(this.#leader?.replication.peers ?? [])].map(infoOf);
  }

  /** Messages of peers that this node refused because no correct member sends them. */
  get violations(): RefusalCount {
    return this.#state.violations;
  }

  /** Messages that this node refused because their senders are not members (T10). */
  get strangers(): RefusalCount {
    return this.#state.strangers;
  }

  /** Returns the reason to refuse a request before it is there in full. Changes nothing. */
  faultOf(request: RequestFacts): Fault | undefined {
    return faultOf(this.#state, request);
  }

  /**
   * Takes in a peer's request. The answer comes out of {@link takeMessages} or a later
   * {@link ready}. Returns false when the request was refused because its sender is not a member,
   * or is faulty.
   */
  step(request: Request): boolean {
    const isRefused = refuseInadmissible(this.#state, request);
    if (!isRefused) this.#take(request);
    this.#leadOrNot();
    return !isRefused;
  }

  #take(request: Request): void {
    const state = this.#state;
    switch (request.type) {
      case "append_entries":
        onAppendEntries(state, request);
        break;
      case "request_vote":
        onRequestVote(state, request);
        break;
      case "timeout_now":
        if (onTimeoutNow(state, request)) this.#campaign(true);
        break;
      case "install_snapshot":
        assert(!this.isInstalling, "one snapshot is installed at a time", { from: request.from });
        onInstallSnapshot(state, request);
    }
  }

  /** Takes in a peer's answer to a request of this node. */
  receive(answer: PeerAnswer): void {
    const state = this.#state;
    const isForNextTerm = answer.type === "request_vote_answer" && answer.request.preVote && answer.granted;
    if (refuseAnswer(state, answer)) {
      // Recorded. It may have raised the term.
    } else if (answer.term > state.term && !isForNextTerm) state.becomeFollower(answer.term, undefined);
    else if (answer.type === "request_vote_answer") this.#decide(onVoteAnswer(state, answer));
    else if (answer.type === "append_entries_answer" && answer.request.term === state.term) {
      this.#leader?.answered(answer);
    }
    this.#leadOrNot();
  }

  /** Advances the time by one tick. */
  tick(): void {
    const state = this.#state;
    if (this.#leader !== undefined) {
      if (!this.#leader.tick()) state.becomeFollower(state.term, undefined);
    } else this.#tickTimer();
    this.#leadOrNot();
  }

  #tickTimer(): void {
    const state = this.#state;
    state.tick();
    if (!state.isTimedOut) return;
    if (state.timing.isAutomatic && "allowed" in mayCampaign(state)) this.#decide(preCampaign(state));
    // A manual campaign that times out is not retried.
    else if (state.role !== "follower") state.becomeFollower(state.term, undefined);
  }

  /**
   * Starts an election regardless of the timers, even while a leader may be alive. With leases it
   * does so only when this node has heard from no leader within an election timeout, because leases
   * rely on that. Changes nothing when it is refused, or on a leader.
   */
  campaign(): Permission {
    if (this.#state.role === "leader") return ALLOWED;
    const permission = mayCampaignNow(this.#state);
    if ("allowed" in permission) this.#campaign(!this.#state.timing.hasLeases);
    return permission;
  }

  /**
   * Asks for votes before the election timeout, if this node knows of no leader and may campaign.
   * Call it from time to time after the start, until there is a leader; see
   * {@link preCampaignEarly}.
   */
  campaignEarly(): void {
    this.#decide(preCampaignEarly(this.#state));
    this.#leadOrNot();
  }

  /**
   * Founds a cluster: appends a first entry that lists the members, this node among them as a
   * voter, and campaigns. The caller must first have every other node's promise to take part in
   * this cluster and in no other (T1), and no other node may know a membership yet.
   */
  found(members: Membership): void {
    const state = this.#state;
    const { index, members: present } = state.memberships.latest;
    assert(index === 0 && present.length === 0, "a cluster is founded where there is none", { index });
    assert(votersOf(members).includes(state.id), "a founder votes", { id: state.id });
    state.becomeFollower(state.term + 1, undefined);
    state.voteFor(state.id);
    const entry = { index: state.log.last.index + 1, term: state.term, type: "configuration" } as const;
    state.append({ ...entry, data: state.codec.encode(members) });
    this.#campaign(false);
  }

  /** Whether this node leads, or has heard from a leader within the smallest election timeout. */
  get hearsLeader(): boolean {
    return this.#state.hearsLeader;
  }

  /**
   * Appends a command to the log, if this node leads. The command is committed when {@link ready}
   * hands it out in `committed`.
   */
  propose(data: Uint8Array, type: "command" | "no-op" = "command"): Proposal {
    return this.#leader?.propose(data, type) ?? { refused: "not_leader" };
  }

  /**
   * Appends a changed membership to the log. The change takes effect at once, and is complete when
   * the entry is committed.
   */
  changeMembership(change: MembershipChange): ChangeProposal {
    return this.#leader?.changeMembership(change) ?? { refused: "not_leader" };
  }

  /**
   * Starts to hand leadership over to the named voter, or to the most caught-up one. The transfer
   * is complete when another node leads; it has failed when {@link transferTarget} is undefined
   * again and this node still leads. Changes nothing when it is refused.
   */
  transferLeadership(to: string | undefined): Permission {
    if (this.#leader === undefined) return { refused: `node ${this.#state.id} does not lead` };
    return this.#leader.leadershipTransfer.begin(to);
  }

  /**
   * Requests the index at which a linearizable read may be answered. The index comes out of
   * {@link takeReads}, now or later.
   */
  readIndex(requestId: number): void {
    if (this.#leader === undefined) this.#state.reads.answer(requestId, undefined);
    else this.#leader.readIndex(requestId);
  }

  /**
   * Takes the answers to {@link readIndex} that are known by now. They promise nothing that is not
   * durable, so they need not wait for a Ready: reads continue while the disk is full.
   */
  takeReads(): readonly ReadState[] {
    return this.#state.reads.takeAnswers();
  }

  /**
   * Takes the messages that may be sent at once, because they promise nothing that is not durable.
   * They include a leader's AppendEntries, even while its own entries are being written (thesis
   * section 10.2.1): it counts itself only when they are durable.
   */
  takeMessages(): readonly (Response | PeerRequest)[] {
    this.#leader?.replication.fill();
    return this.#state.outbox.takeNow();
  }

  /**
   * Whether this node leads and has committed entries that a follower will not be told of before
   * the next entry or heartbeat.
   */
  get hasUntoldCommit(): boolean {
    return this.#leader?.replication.hasUntoldCommit === true;
  }

  /**
   * Tells the followers of the newest commit index in messages of their own, which
   * {@link takeMessages} hands out. An entry that follows soon makes these unnecessary, so the node
   * waits a moment before it calls this.
   */
  announceCommit(): void {
    this.#leader?.replication.announceCommit();
  }

  /**
   * Makes {@link takeMessages} tell the newest commit index to every follower that lacks it,
   * because a member waits for it.
   */
  hastenCommitNotice(): void {
    this.#leader?.replication.hastenCommitNotice();
  }

  /** Takes the reads from the log on disk that followers need. */
  takeLogReads(): readonly LogRead[] {
    return this.#leader?.replication.takeLogReads() ?? [];
  }

  /** Hands over the entries that a {@link LogRead} asked for; none when they could not be read. */
  entriesRead({ to, term }: LogRead, entries: readonly Entry[]): void {
    if (term === this.#state.term) this.#leader?.replication.entriesRead(to, entries);
  }

  /** Takes the followers that the newest snapshot is to be sent to. */
  takeSnapshotSends(): readonly SnapshotSend[] {
    return this.#leader?.replication.takeSnapshotSends() ?? [];
  }

  /** Reports the result of a snapshot transfer. */
  snapshotSent({ to, term }: SnapshotSend, outcome: TransferOutcome): void {
    if (term !== this.#state.term) return;
    this.#leader?.replication.snapshotSent(to, outcome);
    this.#leader?.proceed();
    this.#leadOrNot();
  }

  /** Reports that the connection to a peer broke: the latest messages to it may be lost. */
  unreachable(peer: string): void {
    this.#leader?.replication.unreachable(peer);
  }

  /**
   * Reports that this node's clock may have stopped for longer than its ticks show: leases do not
   * count.
   */
  distrustClock(): void {
    this.#leader?.distrustClock();
  }

  /**
   * Reports that this node paused for longer than an election timeout: a leader must be confirmed
   * by a majority, or it steps down (T8).
   */
  stoodStill(): void {
    this.#leader?.stoodStill();
  }

  /**
   * Sets whether this node's disk keeps up with its writes. A node whose disk is stuck does not
   * lead for long, and does not campaign (T8).
   */
  diskIs(disk: DiskState): void {
    this.#state.disk = disk;
  }

  /**
   * Records that a snapshot of this node is durable: the log discards the entries up to `trimTo`,
   * at most the snapshot's index. A snapshot that is older than the newest one changes nothing
   * (R5). Returns whether it is the newest one now.
   */
  snapshotTaken(snapshot: LogPosition, trimTo: number): boolean {
    const state = this.#state;
    assert(trimTo <= snapshot.index, "only what the snapshot covers is trimmed", { trimTo, snapshot: snapshot.index });
    if (state.snapshot !== undefined && snapshot.index <= state.snapshot.index) return false;
    assert(state.log.termAt(snapshot.index) === snapshot.term, "a snapshot has the term of its last entry", {
      snapshot: snapshot.index,
      term: snapshot.term,
      entry: state.log.termAt(snapshot.index),
    });
    state.snapshot = snapshot;
    // The snapshot proves that its entries are applied, although the Ready that handed them out may
    // still be under way.
    state.log.appliedTo(Math.max(state.log.applied, snapshot.index));
    state.log.trimTo(trimTo);
    state.memberships.trimTo(trimTo);
    return true;
  }

  /** Discards the log up to `index`, which was retained although the newest snapshot covers it. */
  trimLog(index: number): void {
    const { snapshot, log, memberships } = this.#state;
    assert(index <= (snapshot?.index ?? 0), "only what the snapshot covers is trimmed", { index, snapshot });
    if (index <= log.boundary.index) return;
    log.trimTo(index);
    memberships.trimTo(index);
  }

  /** Whether {@link ready} has work to hand out. */
  get hasReady(): boolean {
    return this.#stage.hasReady;
  }

  /**
   * Returns the work to carry out next. The caller hands each Ready to {@link written} before it
   * takes the next one.
   */
  ready(): Ready {
    return this.#stage.take();
  }

  /**
   * Takes the entries to apply without waiting for the current Ready; see
   * {@link ReadyStage.takeCommitted}.
   */
  takeCommitted(): readonly Entry[] {
    return this.#stage.takeCommitted();
  }

  get hasCommitted(): boolean {
    return this.#stage.hasCommitted;
  }

  /** Hands out no further entries to apply while `isHeld`. See {@link ReadyStage.holdCommitted}. */
  holdCommitted(isHeld: boolean): void {
    this.#stage.holdCommitted(isHeld);
  }

  /** Reports that entries from {@link takeCommitted} or of a Ready are applied, in their order. */
  applied(entries: readonly Entry[]): void {
    this.#stage.applied(entries);
  }

  /**
   * Reports that the writes and the snapshot of `ready` are durable: its messages may be sent, and
   * the next Ready may be taken. The node reports its entries with {@link applied}.
   */
  written(ready: Ready): void {
    this.#stage.written(ready);
    this.#leader?.proceed();
    this.#leadOrNot();
  }

  /**
   * Reports that the state machine has loaded the snapshot of a {@link Ready}, and is at `applied`:
   * it has read the later entries from the log on disk, at least up to
   * {@link RaftLog.firstInMemory}. The caller calls this after {@link written} with that Ready.
   * Until then it may take further Readies, which hold nothing to apply: a node that is loading a
   * large state keeps voting and writing its log.
   */
  snapshotInstalled(snapshot: SnapshotMeta, applied: number): void {
    const state = this.#state;
    const request = state.snapshotLoaded(snapshot);
    state.log.restored(applied);
    answerInstalled(state, request);
  }

  #campaign(isTransfer: boolean): void {
    this.#decide(campaign(this.#state, { isTransfer }));
  }

  #decide(result: ElectionResult): void {
    const state = this.#state;
    if (result === "lost") state.becomeFollower(state.term, undefined);
    else if (result === "won" && state.role === "pre-candidate") this.#campaign(false);
    else if (result === "won") {
      state.becomeLeader();
      this.#leader = new Leader(state, this.#limits, this.#sizes);
    }
  }

  /**
   * Follows a change of role or commit index: a removed leader steps down, and a node that no
   * longer leads drops its leader state.
   */
  #leadOrNot(): void {
    const state = this.#state;
    if (this.#leader?.stepsDownRemoved() === true) state.becomeFollower(state.term, undefined);
    if (state.role !== "leader") this.#leader = undefined;
  }
}
