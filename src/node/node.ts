import { checkSignal, checkWholeNumber } from "../base/arguments.js";
import type { CancelSignal } from "../base/cancel_signal.js";
import { CairnError, hasCode } from "../base/errors.js";
import { memberKey } from "../base/ids.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { InstallMessage, InstallReply } from "../peers/install/install_messages.js";
import type { MembershipChange } from "../raft/membership/membership_change.js";
import {
  type AppendEntries,
  type AppendEntriesAnswer,
  isAnswer,
  type PeerRequest,
  type RequestVote,
  type RequestVoteAnswer,
  type Response,
  type TimeoutNow,
  type TimeoutNowAnswer,
  type Unaddressed,
} from "../raft/messages.js";
import type { Raft } from "../raft/raft.js";
import type { ElectionMode } from "../raft/timing.js";
import type { IndexedMembership, Membership } from "../raft/types.js";
import type { Identity } from "../storage/identity.js";
import { type Clock, systemClock } from "../system/clock.js";
import { type Logger, silentLogger } from "../system/logger.js";
import { checkNodeOptions } from "./check_options.js";
import { DiskFullRetry } from "./disk_full.js";
import { guarded, isInterruption, rethrow, watched } from "./ending.js";
import { Alarms } from "./health/alarms.js";
import { Fitness } from "./health/fitness.js";
import type { NodeHost } from "./host.js";
import type { Recovered, RecoveryReport } from "./open/recovery.js";
import { coreOf, isNewDirectory, recoverNode } from "./open/starting.js";
import { abandonStorage, closeStorage, type NodeStorage } from "./open/storage.js";
import type { NodeOptions } from "./options.js";
import { Peers } from "./peers.js";
import { ProtocolWatch } from "./protocol_watch.js";
import { ReadyLoop } from "./ready_loop.js";
import { observerOf } from "./ready_observer.js";
import { Conditions } from "./requests/conditions.js";
import { Leadership } from "./requests/leadership.js";
import { PeerRequests } from "./requests/peer_requests.js";
import { type Committed, Proposals } from "./requests/proposals.js";
import { Reads } from "./requests/reads.js";
import { checkFitsEntry, refusal } from "./requests/refusals.js";
import { AppliedWaiters } from "./requests/waiters.js";
import type { SnapshotOutcome, SnapshotRequest } from "./snapshots/compaction.js";
import { receiveSnapshot } from "./snapshots/receive_protocol.js";
import { TransferReceiver } from "./snapshots/receiver.js";
import type { OutgoingTransfer } from "./snapshots/send_queue.js";
import { Snapshotting } from "./snapshots/snapshotting.js";
import { Ticker } from "./ticker.js";
import { Turns } from "./turns.js";
import type { FitnessView, RaftView, SnapshottingView } from "./views.js";

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
  readonly #raft: Raft;
  readonly #storage: NodeStorage<Machine>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #diskFull: DiskFullRetry;
  readonly #loop: ReadyLoop<Result, Machine>;
  readonly #snapshotting: Snapshotting<Machine>;
  readonly #peers: Peers;
  readonly #conditions: Conditions;
  readonly #proposals = new Proposals<Result>();
  readonly #waiters = new AppliedWaiters();
  readonly #requests: PeerRequests;
  readonly #leadership: Leadership;
  readonly #reads: Reads;
  readonly #ticker: Ticker;
  readonly #turns: Turns;
  /** The condition of this node's disk and event loop and of the other members, with warnings. */
  readonly fitness: FitnessView;
  readonly #onFatal: (error: unknown) => void;
  readonly #alarms: Alarms;
  /** Resolves with the error that ended the loop; undefined when the loop was stopped. */
  readonly #running: Promise<unknown>;
  #stopping: Promise<void> | undefined;

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
    const { storage, report } = recovered;
    this.id = options.id;
    this.incarnation = storage.directory.identity.incarnation;
    this.elections = options.elections ?? "automatic";
    this.recovery = { ...report, durationMs };
    this.#storage = storage;
    this.#clock = clock;
    this.#logger = options.logger ?? silentLogger;
    this.#onFatal = options.onFatal ?? rethrow;
    this.#raft = coreOf(options, recovered);
    this.#diskFull = new DiskFullRetry(clock, (shortage) => this.#alarms.shortageChanged(shortage));
    this.#turns = new Turns(clock, () => {
      if (this.#stopping === undefined) this.#turn();
    });
    this.#conditions = new Conditions(options.onTurn);
    const host = this.#host();
    this.protocol = new ProtocolWatch(this.#raft, clock, this.#logger);
    this.#requests = new PeerRequests(host, this.#diskFull, this.protocol);
    this.#leadership = new Leadership(host, this.#conditions, this.#proposals);
    const watch = <Work>(work: Promise<Work>) => watched(work, host.fail);
    const tools = { clock, logger: this.#logger };
    const callers = { proposals: this.#proposals, waiters: this.#waiters };
    const told = { ...tools, diskFull: this.#diskFull, directory: storage.directory, onLost: options.onLost };
    this.#alarms = new Alarms(host, { ...told, ...callers });
    const transfers = () => this.#peers.transfers;
    const hopeless = (key: string) => this.#snapshotting.hopeless(key);
    const seen = { ...tools, diskFull: this.#diskFull, transfers, hopeless, ...callers };
    const fitness = new Fitness(host, options, seen);
    this.fitness = fitness;
    this.#ticker = new Ticker(clock, options.tickMs ?? 100, (...elapsed) => this.#tick(() => fitness.tick(...elapsed)));
    this.#reads = new Reads(host, this.#ticker);
    const pinnedIndex = () => this.#peers.pinnedIndex;
    this.#snapshotting = new Snapshotting(host, storage, options, { ...tools, transfers, pinnedIndex, watch });
    const observer = observerOf<Result, Machine>({
      ...callers,
      ...{ machine: storage.machine, requests: this.#requests, snapshotting: this.#snapshotting },
      send: (message) => this.#send(message),
      turn: () => this.#turn(),
    });
    this.#loop = new ReadyLoop(this.#raft, storage, this.#diskFull, fitness.writes, observer, clock);
    this.#peers = new Peers(host, storage.log, storage.snapshots, {
      clusterId: storage.directory.identity.clusterId,
      settings: options,
      takeSnapshot: async () => (await this.takeSnapshot({ reason: "follower" })).snapshot,
      protocol: this.protocol,
      transferBegun: (to) => this.#snapshotting.transferBegun(to),
      transferEnded: (to, outcome) => this.#snapshotting.transferEnded(to, outcome),
      ...tools,
    });
    this.receiver = new TransferReceiver(this.#raft, storage.snapshots, {
      install: (offer, staged) => this.#requests.install(offer, staged),
      violated: (from, detail) => this.protocol.violated(from, detail),
      watch,
    });
    storage.directory.onLost((error) => this.#fail(error));
    this.#logger.info({ ...this.recovery }, "recovered");
    this.#running = this.#loop.run().catch((error: unknown) => {
      this.#fail(error);
      return error;
    });
    // A node that is the only member need not wait for anybody.
    if (this.elections === "automatic" && this.#raft.membership.members.length === 1) this.#raft.campaign();
    this.#turns.wake();
    this.#alarms.watchMachine(storage.machine.damaged);
  }

  get clusterId(): string {
    return this.identity.clusterId;
  }

  /** The identity of the node that owns the data directory. @internal */
  get identity(): Identity {
    return this.#storage.directory.identity;
  }

  /**
   * Whether the directory holds only the data that its cluster begins with: the node knows no
   * membership. Also answers after the node has stopped.
   */
  get isNew(): boolean {
    return isNewDirectory(this.identity, this.#raft);
  }

  /** The core, for reading only. */
  get raft(): RaftView {
    return this.#raft;
  }

  /** Highest index that this node knows to be committed, even if its own log ends before it. */
  get knownCommit(): number {
    return Math.max(this.#raft.log.commit, this.#requests.leaderCommit);
  }

  /** The state machine, for reading only. */
  get machine(): Machine {
    return this.#storage.machine;
  }

  /** The snapshots on disk. @internal */
  get snapshots(): NodeStorage<Machine>["snapshots"] {
    return this.#storage.snapshots;
  }

  /** Number of segments and bytes on disk of the log. */
  get logStats(): { readonly segments: number; readonly diskBytes: number } {
    return this.#storage.log.stats();
  }

  /** Snapshot transfers from this node to followers. */
  get transfers(): readonly OutgoingTransfer[] {
    return this.#peers.transfers;
  }

  /** The newest snapshot since the start, and warnings for an operator. */
  get snapshotting(): SnapshottingView {
    return this.#snapshotting;
  }

  get isDiskFull(): boolean {
    return hasCode(this.#diskFull.shortage, "DISK_FULL");
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
    this.#alarms.assertRoom();
    const proposal = this.#core((raft) => raft.propose(data));
    if ("refused" in proposal) throw refusal(proposal.refused, this.id, this.#raft);
    const committed = this.#proposals.wait(proposal.accepted, signal);
    this.#turns.wake();
    return committed;
  }

  /**
   * Waits until a read of the state machine is linearizable: its state is then at least as new as
   * any write answered before the call. Returns the read index. Another member may be read as well
   * once it has applied that index.
   * @throws CairnError NOT_LEADER, CANCELLED; DISK_FULL when committed entries cannot be applied
   */
  async linearizableRead(signal?: CancelSignal): Promise<number> {
    this.#assertRunning(signal);
    // A leader that cannot commit an entry of its own term has no read index.
    if (this.#raft.role === "leader" && !this.#raft.isEstablishedLeader) this.#alarms.assertRoom();
    const index = await this.#reads.index(signal);
    await this.waitApplied(index, signal);
    return index;
  }

  /**
   * Commits an entry that changes nothing, and returns its index when it is applied.
   * @throws CairnError as {@link propose} does
   */
  async barrier(signal?: AbortSignal): Promise<number> {
    this.#assertRunning(signal);
    this.#alarms.assertRoom();
    return this.#leadership.barrier(signal);
  }

  /**
   * Waits until this node has applied `index`.
   * @throws CairnError CANCELLED; DISK_FULL when it cannot apply entries now
   */
  async waitApplied(index: number, signal?: CancelSignal): Promise<void> {
    this.#assertRunning(signal);
    checkWholeNumber("index", index, 0);
    if (this.#storage.machine.appliedIndex >= index) return;
    this.#alarms.assertRoom();
    await this.#waiters.wait(index, signal);
  }

  /**
   * Handles a leader's AppendEntries; resolves when everything that the answer promises is durable.
   * @throws CairnError DISK_FULL; INVALID_ARGUMENT, LIMIT_EXCEEDED for a message that no correct
   * peer sends
   */
  async appendEntries(message: Unaddressed<AppendEntries>): Promise<AppendEntriesAnswer> {
    return this.#requests.appendEntries(message);
  }

  /**
   * Handles a candidate's request; resolves when the vote is durable.
   * @throws CairnError INVALID_ARGUMENT
   */
  async requestVote(message: Unaddressed<RequestVote>): Promise<RequestVoteAnswer> {
    return this.#requests.requestVote(message);
  }

  /**
   * Handles a leader's request to take over; this node has begun an election on return.
   * @throws CairnError INVALID_ARGUMENT
   */
  async timeoutNow(message: Unaddressed<TimeoutNow>): Promise<TimeoutNowAnswer> {
    return this.#requests.timeoutNow(message);
  }

  /** Receives a snapshot from a leader; see {@link receiveSnapshot}. */
  receiveSnapshot(messages: AsyncIterable<InstallMessage>): AsyncIterable<InstallReply> {
    return receiveSnapshot(this.receiver, this.#raft, this.#clock, messages);
  }

  /** Takes a snapshot and trims the log; see {@link Snapshotting.take}. */
  async takeSnapshot(request: SnapshotRequest): Promise<SnapshotOutcome> {
    this.#assertRunning();
    return this.#snapshotting.take(request);
  }

  /** Trims the log up to `index` and returns its first index; see {@link Snapshotting.compact}. */
  async compact(index: number): Promise<number> {
    this.#assertRunning();
    return this.#snapshotting.compact(index);
  }

  /**
   * Campaigns now; resolves with the term when this node leads and has committed an entry of that
   * term.
   * @throws CairnError FAILED_PRECONDITION when it cannot; NOT_LEADER when it has lost; CANCELLED
   */
  async campaign(signal?: AbortSignal): Promise<number> {
    this.#assertRunning(signal);
    const term = await this.#leadership.campaign(signal);
    await this.waitApplied(this.#raft.log.commit, signal);
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
    return this.#leadership.transfer(to, signal);
  }

  /**
   * Changes the membership by one member; resolves with the new membership when it is committed and
   * applied.
   * @throws CairnError NOT_LEADER, DISK_FULL, FAILED_PRECONDITION with the reason: nothing
   * happened. OUTCOME_UNKNOWN
   */
  async changeMembership(change: MembershipChange, signal?: AbortSignal): Promise<IndexedMembership> {
    this.#assertRunning(signal);
    this.#alarms.assertRoom();
    return this.#leadership.changeMembership(change, signal);
  }

  /**
   * Founds a cluster of these members, which include this node; see {@link Raft.found}. The others
   * must have given their promise (T1).
   * @internal
   */
  found(members: Membership): void {
    this.#assertRunning();
    this.#core((raft) => raft.found(members));
    this.#turns.wake();
  }

  /**
   * Tells the core that this node was removed: a member reported that a membership without this
   * node is committed at `index`; see {@link Raft.removed}.
   * @internal
   */
  removed(index: number): void {
    this.#assertRunning();
    this.#core((raft) => raft.removed(index));
    this.#turns.wake();
  }

  /**
   * Stops cleanly: finishes writes that are under way, and syncs everything on the disk. May be
   * called more than once. Rejects when an error occurred on the way; the node has stopped all the
   * same, and recovers at its next start.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#end(closeStorage);
    return this.#stopping;
  }

  /**
   * Stops as if the process had been killed: writes nothing more, and reports nothing. For tests of
   * recovery.
   */
  crash(): Promise<void> {
    this.#stopping ??= this.#end(abandonStorage).catch(() => {});
    return this.#stopping;
  }

  async #end(close: (storage: NodeStorage<Machine>) => Promise<void>): Promise<void> {
    for (const part of [this.#ticker, this.#loop, this.#diskFull]) part.stop();
    const othersStopped = Promise.all([this.#peers.stop(), this.receiver.stop()]);
    await this.#snapshotting.stop();
    const failure = await this.#running;
    // A transfer that is being installed waits for its answer, so fail the waiting callers first.
    this.#proposals.failAll("the node stopped");
    const stopped = new CairnError("STOPPED", `node ${this.id} has stopped`);
    for (const waiting of [this.#waiters, this.#conditions, this.#requests, this.#reads]) waiting.failAll(stopped);
    await othersStopped;
    if (failure === undefined || isInterruption(failure)) return close(this.#storage);
    await abandonStorage(this.#storage);
    throw failure;
  }

  /** Ends a node that cannot continue: nothing may build on its state. */
  #fail(error: unknown): void {
    if (this.#stopping !== undefined) return;
    this.#logger.error({ err: error }, "the node cannot go on and stops");
    this.#stopping = this.#end(abandonStorage).catch(() => {});
    void this.#stopping.then(() => this.#onFatal(error));
  }

  /** Runs a change on the core. The core throws only when it is broken, and that ends the node. */
  #core<Result>(change: (raft: Raft) => Result): Result {
    return guarded(this.#raft, change, (error) => this.#fail(error));
  }

  #host(): NodeHost {
    return {
      id: this.id,
      key: memberKey(this),
      raft: this.#raft,
      core: (change) => this.#core(change),
      wake: () => this.#turns.wake(),
      assertRunning: () => this.#assertRunning(),
      fail: (error) => this.#fail(error),
    };
  }

  /** Carries out the work that does not depend on pending writes, and wakes the loop. */
  #turn(): void {
    this.#reads.answer();
    this.protocol.look();
    this.#proposals.truncated(this.#raft.log.last.index);
    this.#peers.followMembership();
    for (const message of this.#core((raft) => raft.takeMessages())) this.#send(message);
    this.#peers.serve();
    this.#conditions.changed();
    this.#loop.wake();
    this.#alarms.look();
  }

  #send(message: Response | PeerRequest): void {
    if (isAnswer(message)) this.#requests.answer(message);
    else this.#peers.send(message);
  }

  #tick(core: () => void): void {
    try {
      core();
      this.#snapshotting.tick();
      this.#turns.wake();
    } catch (error) {
      // A timer calls this, so there is no caller to report to.
      this.#fail(error);
    }
  }

  #assertRunning(signal?: CancelSignal): void {
    checkSignal(signal);
    if (this.#stopping !== undefined) throw new CairnError("STOPPED", `node ${this.id} has stopped`);
  }
}
