import { assert } from "../base/assert.js";
import { nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { reachableTerm, refuseViolation, violationOf } from "./admission.js";
import {
  campaign,
  cannotCampaign,
  cannotCampaignNow,
  type ElectionResult,
  onRequestVote,
  onTimeoutNow,
  onVoteAnswer,
  preCampaign,
} from "./election.js";
import { answerInstalled, onAppendEntries, onInstallSnapshot } from "./follower.js";
import { Leader, type LeaderLimits } from "./leader/leader.js";
import { infoOf, type ProgressInfo } from "./leader/progress.js";
import type { ReadState } from "./leader/read_index.js";
import type { LogRead, SendSizes, SnapshotOutcome, SnapshotSend } from "./leader/replication.js";
import { type LogLimits, type LogStart, RaftLog } from "./log.js";
import { type MembershipCodec, MembershipHistory, votersOf } from "./membership/membership.js";
import type { MembershipChange } from "./membership/membership_change.js";
import type { InstallSnapshot, PeerAnswer, PeerRequest, Request, Response } from "./messages.js";
import type { ChangeProposal, Proposal } from "./raft_answers.js";
import type { Ready } from "./ready.js";
import { ReadyStage } from "./ready_stage.js";
import { type DiskState, type LostData, RaftState, type Role, type Violations } from "./state.js";
import { Timing, type TimingOptions } from "./timing.js";
import type { Entry, HardState, IndexedMembership, LogPosition, Membership, SnapshotMeta } from "./types.js";

export type { ChangeProposal, ProgressInfo, Proposal };

export type RaftLimits = LeaderLimits & LogLimits;

export interface RaftOptions extends TimingOptions {
  /** Member key of this node (see ids.ts). */
  readonly id: string;
  readonly codec: MembershipCodec;
  readonly hardState: HardState;
  readonly log: LogStart;
  /** Newest snapshot, if there is one. */
  readonly snapshot: LogPosition | undefined;
  /**
   * Membership in force at the log's boundary or the newest snapshot, and those set by entries
   * above, ascending by index.
   */
  readonly memberships: readonly IndexedMembership[];
  /** In place of those in limits.ts. */
  readonly limits?: Partial<RaftLimits> | undefined;
  /**
   * Left out: a follower gets a snapshot only when the log does not have what it lacks any more.
   */
  readonly sizes?: SendSizes | undefined;
}

/**
 * Raft as a machine. {@link step} and {@link receive} take in what peers ask and answer, {@link
 * tick}, {@link propose}, {@link changeMembership}, {@link campaign}, {@link transferLeadership}
 * and {@link readIndex} change it too. What must happen in the world comes out of {@link ready},
 * whose end {@link advance} reports, and of the take... methods, which depend on nothing that is
 * still to be written. Nothing here waits, reads a clock, draws a random number of its own or does
 * I/O.
 */
export class Raft {
  readonly #state: RaftState;
  readonly #limits: RaftLimits;
  readonly #sizes: SendSizes | undefined;
  #leader: Leader | undefined;
  /** The request whose snapshot is being installed. */
  #installing: InstallSnapshot | undefined;
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

  /** Name of the present term's leader, as far as this node knows. */
  get leader(): string | undefined {
    const { leader } = this.#state;
    return leader === undefined ? undefined : nameOf(leader);
  }

  /**
   * Why this node has neither a vote nor a word any more: it has less than it acknowledged (T3).
   */
  get lost(): LostData | undefined {
    return this.#state.lost;
  }

  /** Index of the committed membership that leaves this node out, as a member has told. */
  get removedAt(): number | undefined {
    return this.#state.removedAt;
  }

  /**
   * A member tells that a membership is committed at `index` that leaves this node out. It no
   * longer campaigns, until it hears from a leader again. Changes nothing when this node knows of a
   * later membership.
   */
  removed(index: number): void {
    const state = this.#state;
    if (index <= state.memberships.latest.index || state.role === "leader") return;
    state.removedAt = index;
    if (state.role !== "follower") state.becomeFollower(state.term, undefined);
  }

  /** Read it; change it only through this class. */
  get log(): RaftLog {
    return this.#state.log;
  }

  /** Newest snapshot, taken here or installed. */
  get snapshot(): LogPosition | undefined {
    return this.#state.snapshot;
  }

  /** The membership in force. */
  get membership(): IndexedMembership {
    return this.#state.memberships.latest;
  }

  /** The membership in force at an index of the log. */
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

  /** Name of the voter that leadership is being handed over to. */
  get transferTarget(): string | undefined {
    const target = this.#leader?.handover.target;
    return target === undefined ? undefined : nameOf(target);
  }

  /** A snapshot that is accepted and not installed yet. */
  get isInstalling(): boolean {
    return this.#state.pendingSnapshot !== undefined;
  }

  /**
   * Returns the progress of each other member, as this leader knows it; empty when this node does
   * not lead.
   */
  get progress(): ProgressInfo[] {
    return [...(this.#leader?.replication.peers ?? [])].map(infoOf);
  }

  /** Messages of peers that were refused because no correct member sends them. */
  get violations(): Violations {
    return this.#state.violations;
  }

  /**
   * Describes why `from` cannot be the leader of `term`; undefined when it may be. Changes nothing.
   */
  leaderProblem(from: string, term: number): string | undefined {
    return violationOf(this.#state, { type: "install_snapshot", from, term });
  }

  /**
   * Takes in a request of a peer. Its answer comes out of {@link takeMessages} or a later {@link
   * ready}.
   */
  step(request: Request): void {
    const state = this.#state;
    if (!refuseViolation(state, request)) this.#take(request);
    this.#leadOrNot();
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
        assert(this.#installing === undefined, "one snapshot is installed at a time", { from: request.from });
        if (onInstallSnapshot(state, request)) this.#installing = request;
    }
  }

  /** Takes in a peer's answer to a request of this node. */
  receive(answer: PeerAnswer): void {
    const state = this.#state;
    const isForNextTerm = answer.type === "request_vote_answer" && answer.request.preVote && answer.granted;
    if (answer.term > state.term && !isForNextTerm) state.becomeFollower(reachableTerm(state, answer.term), undefined);
    else if (answer.type === "request_vote_answer") this.#decide(onVoteAnswer(state, answer));
    else if (answer.type === "append_entries_answer" && answer.request.term === state.term) {
      this.#leader?.answered(answer);
    }
    this.#leadOrNot();
  }

  /** A unit of time has passed. */
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
    if (state.timing.isAutomatic && cannotCampaign(state) === undefined) this.#decide(preCampaign(state));
    // Told to campaign, and not elected: it is told again or not.
    else if (state.role !== "follower") state.becomeFollower(state.term, undefined);
  }

  /**
   * Starts an election whatever the timers say, and although a leader may be alive; with leases,
   * which stand on nobody doing that, only when none was heard from within an election timeout.
   * Returns why it cannot, or undefined; a leader stays one.
   */
  campaign(): string | undefined {
    if (this.#state.role === "leader") return undefined;
    const reason = cannotCampaignNow(this.#state);
    if (reason === undefined) this.#campaign(!this.#state.timing.hasLeases);
    return reason;
  }

  /**
   * Founds a cluster: the first entry of its log says who the members are, this node among them as
   * a voter, and this node campaigns. Call it once all others have promised to take part in this
   * cluster and in no other (T1); no other node of it knows a membership before.
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

  /** Whether this node has heard from a leader within the smallest election timeout, or leads. */
  get hearsLeader(): boolean {
    return this.#state.hearsLeader;
  }

  /**
   * Appends a command to the log, if this node leads. It is committed when {@link ready} hands it
   * out among `committed`.
   */
  propose(data: Uint8Array, type: "command" | "no-op" = "command"): Proposal {
    const proposed = this.#leader?.propose(data, type) ?? "not_leader";
    return typeof proposed === "string" ? { refused: proposed } : { accepted: proposed };
  }

  /**
   * Appends a changed membership to the log; it is in force at once, and done when it is committed.
   */
  changeMembership(change: MembershipChange): ChangeProposal {
    if (this.#leader === undefined) return { refused: "not_leader" };
    const proposed = this.#leader.changeMembership(change);
    return "impossible" in proposed || "unchanged" in proposed ? proposed : { accepted: proposed };
  }

  /**
   * Begins to hand leadership over, to the voter of that name, or to the one that is most caught
   * up. Done when another node leads; given up, with this node still leading, when {@link
   * transferTarget} is undefined again. Returns why it cannot.
   */
  transferLeadership(to: string | undefined): string | undefined {
    if (this.#leader === undefined) return `node ${this.#state.id} does not lead`;
    return this.#leader.handover.begin(to);
  }

  /**
   * Asks for the index at which a linearizable read may be answered; it comes out of {@link
   * takeReads}, now or later.
   */
  readIndex(requestId: number): void {
    if (this.#leader === undefined) this.#state.reads.answer(requestId, undefined);
    else this.#leader.readIndex(requestId);
  }

  /**
   * The answers to {@link readIndex} that are known by now. They promise nothing that is still to
   * be written, so they need not wait for a Ready: reads go on while the disk is full.
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

  /** Entries that are to be read from disk for a follower. */
  takeLogReads(): readonly LogRead[] {
    return this.#leader?.replication.takeLogReads() ?? [];
  }

  /** The entries that a {@link LogRead} asked for; none when they could not be read. */
  entriesRead({ to, term }: LogRead, entries: readonly Entry[]): void {
    if (term === this.#state.term) this.#leader?.replication.entriesRead(to, entries);
  }

  /** Followers that the newest snapshot is to be sent to. */
  takeSnapshotSends(): readonly SnapshotSend[] {
    return this.#leader?.replication.takeSnapshotSends() ?? [];
  }

  /** The sending of a snapshot has ended. */
  snapshotSent({ to, term }: SnapshotSend, outcome: SnapshotOutcome): void {
    if (term !== this.#state.term) return;
    this.#leader?.replication.snapshotSent(to, outcome);
    this.#leader?.proceed();
    this.#leadOrNot();
  }

  /** The connection to a peer broke: what was sent to it last may be lost. */
  unreachable(peer: string): void {
    this.#leader?.replication.unreachable(peer);
  }

  /** This node's clock may have stood still for longer than its ticks show: leases do not count. */
  distrustClock(): void {
    this.#leader?.distrustClock();
  }

  /**
   * This node stood still for longer than an election timeout: a leader has to be confirmed, or
   * steps down (T8).
   */
  stoodStill(): void {
    this.#leader?.stoodStill();
  }

  /**
   * Sets whether this node's disk keeps up with its writes. A node whose disk is stuck resigns as
   * leader after a while, and does not campaign (T8).
   */
  diskIs(disk: DiskState): void {
    this.#state.disk = disk;
  }

  /**
   * A snapshot was taken here and is durable: the log forgets the entries up to `trimTo`, at most
   * the snapshot's index. A snapshot that is older than the newest one changes nothing (R5).
   * Returns whether it is the newest one now.
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
    // That it was taken proves that its entries are applied, though the Ready that handed them out
    // may still be under way.
    state.log.appliedTo(Math.max(state.log.applied, snapshot.index));
    state.log.trimTo(trimTo);
    state.memberships.trimTo(trimTo);
    return true;
  }

  /**
   * Log that was kept behind the newest snapshot, which covers it, is to be kept no longer: the log
   * forgets the entries up to `index`.
   */
  trimLog(index: number): void {
    const { snapshot, log, memberships } = this.#state;
    assert(index <= (snapshot?.index ?? 0), "only what the snapshot covers is trimmed", { index, snapshot });
    if (index <= log.boundary.index) return;
    log.trimTo(index);
    memberships.trimTo(index);
  }

  /** Whether {@link ready} has anything to say. */
  get hasReady(): boolean {
    return this.#stage.hasReady;
  }

  /**
   * Returns the work to carry out next. The caller hands each Ready to {@link advance} before it
   * takes the next one.
   */
  ready(): Ready {
    return this.#stage.take();
  }

  /** See {@link ReadyStage.takeCommitted}. */
  takeCommitted(): readonly Entry[] {
    return this.#stage.takeCommitted();
  }

  get hasCommitted(): boolean {
    return this.#stage.hasCommitted;
  }

  /** What {@link takeCommitted} gave is applied. */
  applied(entries: readonly Entry[]): void {
    this.#stage.applied(entries);
  }

  /**
   * All of `ready` was carried out: its writes and its snapshot are durable, its entries are
   * applied.
   */
  advance(ready: Ready): void {
    this.#stage.done(ready);
    this.#leader?.proceed();
    this.#leadOrNot();
  }

  /**
   * The state machine has loaded the snapshot that a {@link Ready} held, and is at `applied`: what
   * came meanwhile it has taken from the log on disk, at least up to {@link RaftLog.firstInMemory}.
   * To be called after {@link advance} with that Ready. Until then other ones may be taken, which
   * hold nothing to apply: a node that loads a large state goes on to vote and to write its log.
   */
  snapshotInstalled(snapshot: SnapshotMeta, applied: number): void {
    const state = this.#state;
    const isDue = this.#installing !== undefined && state.pendingSnapshot === snapshot && state.isSnapshotDurable;
    assert(isDue, "the pending snapshot is installed, once it is durable", { snapshot: snapshot.index });
    state.pendingSnapshot = undefined;
    state.log.restored(applied);
    answerInstalled(state, this.#installing!);
    this.#installing = undefined;
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
