import { checkWholeNumber } from "../base/arguments.js";
import type { CancelSignal } from "../base/cancel_signal.js";
import { CairnError, hasCode } from "../base/errors.js";
import { tracingOf } from "../base/telemetry/tracing.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { InstallMessage, InstallReply } from "../peers/install/install_messages.js";
import type { MembershipChange } from "../raft/membership/membership_change.js";
import type {
  AppendEntries,
  AppendEntriesAnswer,
  RequestVote,
  RequestVoteAnswer,
  TimeoutNow,
  TimeoutNowAnswer,
  Unaddressed,
} from "../raft/messages.js";
import type { ProposalRefusal } from "../raft/raft_answers.js";
import type { ElectionMode } from "../raft/timing.js";
import type { IndexedMembership, Membership } from "../raft/types.js";
import type { Identity } from "../storage/identity.js";
import { type Clock, systemClock } from "../system/clock.js";
import type { LogFacts } from "../system/log_fields.js";
import { checkNodeOptions } from "./check_options.js";
import type { FitnessView } from "./health/health.js";
import type { NodeMeasures } from "./measures/node_measures.js";
import type { Recovered, RecoveryReport } from "./open/recovery.js";
import { isNewDirectory, recoverNode } from "./open/starting.js";
import { abandonStorage, type NodeStorage } from "./open/storage.js";
import type { NodeOptions } from "./options.js";
import { NodeParts } from "./parts.js";
import type { ProtocolWatch } from "./protocol_watch.js";
import type { AppliedLog } from "./requests/applied_log.js";
import type { Committed } from "./requests/proposals.js";
import type { ReaderPlace } from "./requests/reads.js";
import { checkFitsEntry, refusal } from "./requests/refusals.js";
import type { SnapshotOutcome, SnapshotRequest } from "./snapshots/compaction.js";
import type { RetentionView, SnapshottingView } from "./snapshots/reason.js";
import { receiveSnapshot } from "./snapshots/receive_protocol.js";
import type { TransferReceiver } from "./snapshots/receiver.js";
import type { OutgoingTransfer } from "./snapshots/send_queue.js";
import type { RaftView } from "./views.js";

/**
 * A member of a cluster: joins the core, its disk and its state machine. Start it with {@link
 * start}; end it with {@link stop}. Every method rejects with STOPPED when the node has stopped.
 */
export class CairnNode<Result, Machine extends StateMachine<Result>> {
  /** The node's name. */
  readonly id: string;
  /** Its data directory's random name (T1), in hexadecimal digits; empty for a given identity. */
  readonly incarnation: string;
  readonly elections: ElectionMode;
  readonly recovery: RecoveryReport & { readonly durationMs: number };
  /** @internal */
  readonly receiver: TransferReceiver;
  /** Counts messages from peers that no correct member sends. @internal */
  readonly protocol: ProtocolWatch;
  /** The condition of this node's disk and event loop and of the other members, with warnings. */
  readonly fitness: FitnessView;
  /** Counts and times of the node's work since it started. @internal */
  readonly measures: NodeMeasures;
  readonly #parts: NodeParts<Result, Machine>;
  readonly #clock: Clock;

  /**
   * Starts a node on its data directory, which is created if it does not exist. On return the node
   * has recovered and answers.
   * @throws CairnError INVALID_ARGUMENT for a bad id, DATA_DIRECTORY or CORRUPT when the directory
   * cannot be used: the text says why
   */
  static async start<Result, Machine extends StateMachine<Result>>(
    options: NodeOptions<Result, Machine>,
  ): Promise<CairnNode<Result, Machine>> {
    checkNodeOptions(options);
    const clock = options.clock ?? systemClock;
    const started = clock.now();
    const recovered = await recoverNode(options);
    try {
      return new CairnNode(options, recovered, clock, clock.now() - started);
    } catch (error) {
      await abandonStorage(recovered.storage);
      throw error;
    }
  }

  private constructor(
    options: NodeOptions<Result, Machine>,
    recovered: Recovered<Machine>,
    clock: Clock,
    durationMs: number,
  ) {
    const parts = new NodeParts(options, recovered, clock);
    this.id = options.id;
    this.incarnation = recovered.storage.directory.identity.incarnation;
    this.elections = options.elections ?? "automatic";
    this.recovery = { ...recovered.report, durationMs };
    this.receiver = parts.receiver;
    this.protocol = parts.protocol;
    this.fitness = parts.fitness;
    this.measures = parts.measures;
    this.#parts = parts;
    this.#clock = clock;
    const { snapshotIndex, stateRebuilt, replayedEntries: entries, tornBytes: bytes } = this.recovery;
    const facts: LogFacts = { snapshotIndex, stateRebuilt, entries, bytes, durationMs: Math.round(durationMs) };
    options.logger?.info(facts, "recovered");
    parts.begin(this.elections);
  }

  get clusterId(): string {
    return this.identity.clusterId;
  }

  /** The identity of the node that owns the data directory. @internal */
  get identity(): Identity {
    return this.#parts.storage.directory.identity;
  }

  /**
   * Whether the directory holds only the data that its cluster begins with: the node knows no
   * membership. Also answers after the node has stopped.
   */
  get isNew(): boolean {
    return isNewDirectory(this.identity, this.raft);
  }

  /** The core, for reading only. */
  get raft(): RaftView {
    return this.#parts.host.raft;
  }

  /** Highest index that this node knows to be committed, even if its own log ends before it. */
  get knownCommit(): number {
    return Math.max(this.raft.log.commit, this.#parts.requests.leaderCommit);
  }

  /** The state machine, for reading only. */
  get machine(): Machine {
    return this.#parts.storage.machine;
  }

  /** The snapshots on disk. @internal */
  get snapshots(): NodeStorage<Machine>["snapshots"] {
    return this.#parts.storage.snapshots;
  }

  /** The applied entries of the log. @internal */
  get appliedLog(): AppliedLog {
    return this.#parts.appliedLog;
  }

  /** Number of segments and bytes on disk of the log. */
  get logStats(): { readonly segments: number; readonly diskBytes: number } {
    return this.#parts.storage.log.stats();
  }

  /**
   * Newest rules for commands that other members know, by member key: 0 for one that does not tell,
   * none for one that this node has not heard. @internal
   */
  get rulesOfMembers(): ReadonlyMap<string, number> {
    return this.#parts.rulesOfMembers;
  }

  /** Writes proposed here whose callers still wait. @internal */
  get waitingWrites(): number {
    return this.#parts.proposals.count;
  }

  /** The log that is retained behind the newest snapshot, and since. @internal */
  get retention(): RetentionView {
    return this.#parts.snapshotting.retention;
  }

  /** Snapshot transfers from this node to followers. */
  get transfers(): readonly OutgoingTransfer[] {
    return this.#parts.snapshotting.transfers;
  }

  /** The newest snapshot since the start, and warnings for an operator. */
  get snapshotting(): SnapshottingView {
    return this.#parts.snapshotting;
  }

  get isDiskFull(): boolean {
    return hasCode(this.#parts.diskFull.shortage, "DISK_FULL");
  }

  /**
   * Appends a command to the log and waits until it is applied: it is then durable on a majority.
   * @throws CairnError NOT_LEADER, BUSY, DISK_FULL, LIMIT_EXCEEDED: nothing happened.
   * OUTCOME_UNKNOWN: it may still take effect.
   */
  async propose(data: Uint8Array, signal?: CancelSignal): Promise<Committed<Result>> {
    this.#assertRunning(signal);
    if (signal?.aborted) throw new CairnError("CANCELLED", "the caller gave up before the write was begun");
    checkFitsEntry(data, "the command");
    this.#parts.diskFull.assertRoom();
    const proposal = this.#parts.host.core((raft) => raft.propose(data));
    if ("refused" in proposal) throw this.#refused(proposal.refused);
    this.measures.stages.proposed(proposal.accepted.index);
    const traceEvent = tracingOf()?.activeEvents;
    if (traceEvent !== undefined) this.measures.stages.traced.begin(proposal.accepted.index, traceEvent);
    const committed = this.#parts.proposals.wait(proposal.accepted, signal);
    this.#parts.host.wake();
    return committed;
  }

  /**
   * Waits until a read of the state machine is linearizable: its state is then at least as new as
   * any write answered before the call. Returns the read index. Another member may be read as well
   * once it has applied that index.
   * @throws CairnError NOT_LEADER, CANCELLED; DISK_FULL when committed entries cannot be applied
   */
  async linearizableRead(signal?: CancelSignal): Promise<number> {
    const startedMs = this.#clock.now();
    const index = await this.#readIndex("here", signal);
    await this.waitApplied(index, signal);
    this.measures.reads.record(this.#clock.now() - startedMs);
    return index;
  }

  /**
   * Returns the read index for another member, which may answer every read that it got before it
   * asked, once it has applied that index. This node may not have applied it yet.
   * @throws CairnError as {@link linearizableRead} does
   * @internal
   */
  async readIndex(signal?: CancelSignal): Promise<number> {
    return this.#readIndex("at a member", signal);
  }

  /**
   * Commits an entry that changes nothing, and returns its index when it is applied.
   * @throws CairnError as {@link propose} does
   */
  async barrier(signal?: AbortSignal): Promise<number> {
    this.#assertRunning(signal);
    this.#parts.diskFull.assertRoom();
    return this.#parts.leadership.barrier(signal);
  }

  /**
   * Waits until this node has applied `index`.
   * @throws CairnError CANCELLED; DISK_FULL when it cannot apply entries now
   */
  async waitApplied(index: number, signal?: CancelSignal): Promise<void> {
    this.#assertRunning(signal);
    checkWholeNumber("index", index, 0);
    if (this.#parts.storage.machine.appliedIndex >= index) return;
    this.#parts.diskFull.assertRoom();
    await this.#parts.waiters.wait(index, signal);
  }

  /**
   * Handles a leader's AppendEntries; resolves when everything that the answer promises is durable.
   * @throws CairnError DISK_FULL; INVALID_ARGUMENT, LIMIT_EXCEEDED for a message that no correct
   * peer sends
   */
  async appendEntries(message: Unaddressed<AppendEntries>): Promise<AppendEntriesAnswer> {
    return this.#parts.requests.appendEntries(message);
  }

  /**
   * Handles a candidate's request; resolves when the vote is durable.
   * @throws CairnError INVALID_ARGUMENT
   */
  async requestVote(message: Unaddressed<RequestVote>): Promise<RequestVoteAnswer> {
    return this.#parts.requests.requestVote(message);
  }

  /**
   * Handles a leader's request to take over; this node has begun an election on return.
   * @throws CairnError INVALID_ARGUMENT
   */
  async timeoutNow(message: Unaddressed<TimeoutNow>): Promise<TimeoutNowAnswer> {
    return this.#parts.requests.timeoutNow(message);
  }

  /** Receives a snapshot from a leader; see {@link receiveSnapshot}. */
  receiveSnapshot(messages: AsyncIterable<InstallMessage>): AsyncIterable<InstallReply> {
    return receiveSnapshot(this.receiver, this.raft, this.#clock, messages);
  }

  /** Takes a snapshot and trims the log; see {@link Snapshotting.take}. */
  async takeSnapshot(request: SnapshotRequest): Promise<SnapshotOutcome> {
    this.#assertRunning();
    return this.#parts.snapshotting.take(request);
  }

  /** Trims the log up to `index` and returns its first index; see {@link Snapshotting.compact}. */
  async compact(index: number): Promise<number> {
    this.#assertRunning();
    return this.#parts.snapshotting.compact(index);
  }

  /**
   * Campaigns now; resolves with the term when this node leads and has committed an entry of that
   * term.
   * @throws CairnError FAILED_PRECONDITION when it cannot; NOT_LEADER when it has lost; CANCELLED
   */
  async campaign(signal?: AbortSignal): Promise<number> {
    this.#assertRunning(signal);
    const term = await this.#parts.leadership.campaign(signal);
    await this.waitApplied(this.raft.log.commit, signal);
    return term;
  }

  /**
   * Hands leadership over to a voter; by default to the most caught-up one. Resolves with the new
   * leader's id as soon as this node knows it.
   * @throws CairnError NOT_LEADER; FAILED_PRECONDITION when it cannot, or when the other did not
   * take over within an election timeout: this node keeps leading then; CANCELLED
   */
  async transferLeadership(to?: string, signal?: AbortSignal): Promise<string> {
    this.#assertRunning(signal);
    return this.#parts.leadership.transfer(to, signal);
  }

  /**
   * Changes the membership by one member; resolves with the new membership when it is committed and
   * applied.
   * @throws CairnError NOT_LEADER, DISK_FULL, FAILED_PRECONDITION with the reason: nothing
   * happened. OUTCOME_UNKNOWN
   */
  async changeMembership(change: MembershipChange, signal?: AbortSignal): Promise<IndexedMembership> {
    this.#assertRunning(signal);
    this.#parts.diskFull.assertRoom();
    return this.#parts.leadership.changeMembership(change, signal);
  }

  /**
   * Founds a cluster of these members, which include this node; see {@link Raft.found}. The others
   * must have given their promise (T1).
   * @internal
   */
  found(members: Membership): void {
    this.#assertRunning();
    this.#parts.host.core((raft) => raft.found(members));
    this.#parts.host.wake();
  }

  /**
   * Tells the core that this node was removed: a member reported that a membership without this
   * node is committed at `index`; see {@link Raft.removed}.
   * @internal
   */
  removed(index: number): void {
    this.#assertRunning();
    this.#parts.host.core((raft) => raft.removed(index));
    this.#parts.host.wake();
  }

  /**
   * Stops cleanly: finishes writes that are under way, and syncs everything on the disk. May be
   * called more than once. Rejects when an error occurred on the way; the node has stopped all the
   * same, and recovers at its next start.
   */
  stop(): Promise<void> {
    return this.#parts.ending.stop();
  }

  /**
   * Stops as if the process had been killed: writes nothing more, and reports nothing. For tests of
   * recovery.
   */
  crash(): Promise<void> {
    return this.#parts.ending.crash();
  }

  async #readIndex(reader: ReaderPlace, signal: CancelSignal | undefined): Promise<number> {
    this.#assertRunning(signal);
    // A leader that cannot commit an entry of its own term has no read index.
    if (this.raft.role === "leader" && !this.raft.isEstablishedLeader) this.#parts.diskFull.assertRoom();
    return this.#parts.reads.index(reader, signal);
  }

  #refused(reason: ProposalRefusal): CairnError {
    const error = refusal(reason, this.id, this.raft);
    this.measures.failedWrites.add(error.code);
    return error;
  }

  #assertRunning(signal?: CancelSignal): void {
    this.#parts.ending.assertRunning(signal);
  }
}
