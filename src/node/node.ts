import { randomUUID } from "node:crypto";
import { InvariantViolation } from "../core/invariants.js";
import { limits } from "../core/limits.js";
import {
  type AppendEntries,
  type AppendEntriesAnswer,
  type InstallSnapshotAnswer,
  malformedAppend,
  type Request,
  type RequestVote,
  type RequestVoteAnswer,
  type Response,
} from "../core/messages.js";
import { type ElectionMode, Raft } from "../core/raft.js";
import { CairnError, hasCode } from "../errors.js";
import type { StateMachine } from "../machine/state_machine.js";
import { checkId, checkMembers } from "../storage/data_dir.js";
import { nodeFileSystem } from "../storage/fs.js";
import { membershipCodec } from "../storage/membership_message.js";
import type { StagedSnapshot } from "../storage/snapshots/staged_snapshot.js";
import { type Clock, systemClock } from "./clock.js";
import { Compactor, type SnapshotOutcome, type SnapshotRequest } from "./compaction.js";
import { type Logger, silentLogger } from "./logger.js";
import type { NodeOptions } from "./options.js";
import { PendingAnswers } from "./pending_answers.js";
import { type Committed, Proposals } from "./proposals.js";
import { ReadyLoop } from "./ready_loop.js";
import { type Recovered, type RecoveryReport, recover } from "./recovery.js";
import { checkFitsEntry, diskFull, refusal } from "./refusals.js";
import { RoomKeeper } from "./room.js";
import { type InstallOffer, SnapshotInbox } from "./snapshot_inbox.js";
import { abandonStorage, closeStorage, type NodeStorage } from "./storage.js";
import { AppliedWaiters } from "./waiters.js";

type Unaddressed<Message extends Request> = Omit<Message, "requestId">;

/**
 * A member of a cluster: the core, its disk and its state machine, joined. Start it with {@link start}; end it with {@link stop}.
 * Every method rejects with STOPPED when the node has stopped.
 */
export class CairnNode<Result, Machine extends StateMachine<Result>> {
  readonly id: string;
  readonly elections: ElectionMode;
  readonly recovery: RecoveryReport & { readonly durationMs: number };
  readonly inbox: SnapshotInbox;
  readonly #raft: Raft;
  readonly #storage: NodeStorage<Machine>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #room: RoomKeeper;
  readonly #loop: ReadyLoop<Result, Machine>;
  readonly #compactor: Compactor<Machine>;
  readonly #proposals = new Proposals<Result>();
  readonly #waiters = new AppliedWaiters();
  readonly #requests = new PendingAnswers<Response>();
  readonly #reads = new PendingAnswers<number>();
  readonly #onFatal: (error: unknown) => void;
  /** Ends with what the loop ended with; undefined when it was stopped. */
  readonly #running: Promise<unknown>;
  #cancelTick: () => void = () => {};
  #nextRequest = 1;
  #stopping: Promise<void> | undefined;

  /**
   * Starts a node on its data directory, which is made when it is not there. On return the node has recovered and answers.
   * @throws CairnError INVALID_ARGUMENT for a bad id, DATA_DIRECTORY or CORRUPT when the directory cannot be used: the text says why
   */
  static async start<Result, Machine extends StateMachine<Result>>(
    options: NodeOptions<Result, Machine>,
  ): Promise<CairnNode<Result, Machine>> {
    checkId(options.id, "node id");
    if (options.clusterId !== undefined) checkId(options.clusterId, "cluster id");
    const members = checkMembers(options.members ?? [{ id: options.id, address: "", role: "voter" }]);
    const clock = options.clock ?? systemClock;
    const started = clock.now();
    const recovered = await recover({
      fs: options.fs ?? nodeFileSystem,
      path: options.directory,
      nodeId: options.id,
      clusterId: options.clusterId,
      newClusterId: randomUUID,
      members,
      openMachine: options.openMachine,
      trustState: options.trustState ?? true,
      segmentBytes: options.segmentBytes ?? limits.segmentBytes,
      logger: options.logger ?? silentLogger,
    });
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
    this.elections = options.elections ?? "automatic";
    this.recovery = { ...report, durationMs };
    this.#storage = storage;
    this.#clock = clock;
    this.#logger = options.logger ?? silentLogger;
    this.#onFatal = options.onFatal ?? rethrow;
    this.#raft = new Raft({
      id: this.id,
      elections: this.elections,
      electionTicks: options.electionTicks ?? 10,
      random: options.random ?? Math.random,
      codec: membershipCodec,
      hardState: storage.log.hardState,
      log: recovered.start,
      snapshot: recovered.snapshot,
      memberships: recovered.memberships,
    });
    this.#room = new RoomKeeper(clock, (full, error) => this.#onRoom(full, error));
    this.#loop = new ReadyLoop(this.#raft, storage, this.#room, clock, {
      applied: (entries, results) => {
        this.#proposals.applied(entries, results);
        this.#waiters.reached(storage.machine.appliedIndex);
      },
      installed: ({ index }) => {
        this.#proposals.overtaken(index);
        this.#waiters.reached(index);
        this.#logger.info({ index }, "installed a snapshot");
      },
      answer: (response) => this.#requests.resolve(response.requestId, response),
      advanced: () => this.#answerReads(),
    });
    this.#compactor = new Compactor(this.#raft, storage, {
      openMachine: options.openMachine,
      trailingLogBytes: options.trailingLogBytes ?? limits.trailingLogBytes,
      logger: this.#logger,
    });
    this.inbox = new SnapshotInbox(this.#raft, storage.snapshots, {
      install: (offer, staged) => this.#install(offer, staged),
      watch: (work) => this.#fatalIfUntrusted(work),
    });
    this.#logger.info({ ...this.recovery }, "recovered");
    this.#running = this.#loop.run().then(
      () => undefined,
      (error) => {
        this.#fail(error);
        return error;
      },
    );
    if (this.elections === "automatic") {
      // A node that is alone need not wait for anybody.
      if (this.#raft.membership.members.length === 1) this.#raft.campaign();
      this.#scheduleTick(options.tickMs ?? 100);
    }
    this.#loop.wake();
  }

  get clusterId(): string {
    return this.#storage.directory.identity.clusterId;
  }

  /** The core, to be read only. */
  get raft(): Pick<Raft, "term" | "role" | "leader" | "log" | "snapshot" | "membership" | "isEstablishedLeader"> {
    return this.#raft;
  }

  /** The state machine, to be read only. */
  get machine(): Machine {
    return this.#storage.machine;
  }

  /** The snapshots on disk. */
  get snapshots(): NodeStorage<Machine>["snapshots"] {
    return this.#storage.snapshots;
  }

  /** What the log takes on disk. */
  get logStats(): { readonly segments: number; readonly diskBytes: number } {
    return this.#storage.log.stats();
  }

  /** Writes are refused because the disk is full. */
  get isDiskFull(): boolean {
    return this.#room.isFull;
  }

  /**
   * Puts a command into the log and waits until it is applied: it is then durable on a majority.
   * @throws CairnError NOT_LEADER, BUSY, DISK_FULL, LIMIT_EXCEEDED: nothing happened. OUTCOME_UNKNOWN: it may still take effect.
   */
  async propose(data: Uint8Array, signal?: AbortSignal): Promise<Committed<Result>> {
    this.#assertRunning();
    if (signal?.aborted) throw new CairnError("CANCELLED", "the caller gave up before the write was begun");
    checkFitsEntry(data, "the command");
    if (this.#room.isFull) throw diskFull();
    const proposal = this.#core((raft) => raft.propose(data));
    if ("refused" in proposal) throw refusal(proposal.refused, this.id, this.#raft.leader);
    const committed = this.#proposals.wait(proposal.accepted, signal);
    this.#loop.wake();
    return committed;
  }

  /**
   * Waits until the state machine may be read linearizably: its state is then at least as new as any write answered before the call.
   * @throws CairnError NOT_LEADER, CANCELLED; DISK_FULL when committed entries cannot be applied
   */
  async linearizableRead(signal?: AbortSignal): Promise<void> {
    this.#assertRunning();
    const requestId = this.#nextRequest++;
    const answer = this.#reads.wait(requestId, signal);
    this.#core((raft) => raft.readIndex(requestId));
    this.#answerReads();
    const index = await answer;
    await this.waitApplied(index, signal);
  }

  /** Waits until this node has applied `index`. @throws CairnError CANCELLED; DISK_FULL when it cannot apply anything now */
  async waitApplied(index: number, signal?: AbortSignal): Promise<void> {
    this.#assertRunning();
    if (this.#storage.machine.appliedIndex >= index) return;
    if (this.#room.isFull) throw diskFull();
    await this.#waiters.wait(index, signal);
  }

  /**
   * Takes in a leader's entries; resolves when what the answer promises is durable.
   * @throws CairnError DISK_FULL; INVALID_ARGUMENT, LIMIT_EXCEEDED for a message that no correct peer sends
   */
  async appendEntries(message: Unaddressed<AppendEntries>): Promise<AppendEntriesAnswer> {
    checkId(message.from, "sender");
    const malformed = malformedAppend({ ...message, requestId: 0 });
    if (malformed !== undefined) throw new CairnError("INVALID_ARGUMENT", malformed);
    for (const { index, data } of message.entries) checkFitsEntry(data, `entry ${index}`);
    if (message.entries.length > 0 && this.#room.isFull) throw diskFull();
    return (await this.#step(message)) as AppendEntriesAnswer;
  }

  /** Takes in a candidate's request; resolves when the vote is durable. @throws CairnError INVALID_ARGUMENT */
  async requestVote(message: Unaddressed<RequestVote>): Promise<RequestVoteAnswer> {
    checkId(message.from, "sender");
    return (await this.#step(message)) as RequestVoteAnswer;
  }

  /** Takes a snapshot and trims the log; see {@link Compactor.take}. */
  async takeSnapshot(request: SnapshotRequest): Promise<SnapshotOutcome> {
    this.#assertRunning();
    return this.#fatalIfUntrusted(this.#compactor.take(request));
  }

  /**
   * Campaigns now; resolves with the term when this node leads and has committed an entry of its own.
   * @throws CairnError FAILED_PRECONDITION when it cannot
   */
  async campaign(signal?: AbortSignal): Promise<number> {
    this.#assertRunning();
    const reason = this.#core((raft) => raft.campaign());
    if (reason !== undefined) throw new CairnError("FAILED_PRECONDITION", `node ${this.id} cannot campaign: ${reason}`);
    const { term } = this.#raft;
    this.#loop.wake();
    await this.linearizableRead(signal);
    return term;
  }

  /**
   * Stops cleanly: what is being written is finished, and everything that the disk has is synced. May be called more than once.
   * Rejects when something went wrong on the way; the node has stopped all the same, and is recovered at its next start.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#end(closeStorage);
    return this.#stopping;
  }

  /** Stops as if the process had been killed: nothing more is written, and nothing is reported. For tests of recovery. */
  crash(): Promise<void> {
    this.#stopping ??= this.#end(abandonStorage).catch(() => {});
    return this.#stopping;
  }

  async #end(close: (storage: NodeStorage<Machine>) => Promise<void>): Promise<void> {
    this.#cancelTick();
    this.#loop.stop();
    this.#room.stop();
    const inboxStopped = this.inbox.stop();
    await this.#compactor.stop();
    const failure = await this.#running;
    // A transfer that is being installed waits for its answer.
    this.#failCallers();
    await inboxStopped;
    if (failure === undefined || isInterruption(failure)) return close(this.#storage);
    await abandonStorage(this.#storage);
    throw failure;
  }

  /** The node cannot go on: nothing may be built on its state any more. */
  #fail(error: unknown): void {
    if (this.#stopping !== undefined) return;
    this.#logger.error({ err: error }, "the node cannot go on and stops");
    this.#stopping = this.#end(abandonStorage).catch(() => {});
    void this.#stopping.then(() => this.#onFatal(error));
  }

  /** Lets the core do something. It throws only when it is broken. */
  #core<Result>(change: (raft: Raft) => Result): Result {
    try {
      return change(this.#raft);
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  /** What breaks an invariant, or leaves a disk whose contents are not known, ends the node, whoever comes across it. */
  async #fatalIfUntrusted<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      const isStorage = hasCode(error, "STORAGE_FAILED");
      if (isStorage || error instanceof InvariantViolation) this.#fail(error);
      throw error;
    }
  }

  #failCallers(): void {
    const stopped = new CairnError("STOPPED", `node ${this.id} has stopped`);
    this.#proposals.failAll("the node stopped");
    this.#waiters.failAll(stopped);
    this.#requests.rejectAll(stopped);
    this.#reads.rejectAll(stopped);
  }

  async #step(message: Unaddressed<Request>): Promise<Response> {
    this.#assertRunning();
    const requestId = this.#nextRequest++;
    this.#core((raft) => raft.step({ ...message, requestId } as Request));
    const answer = this.#requests.wait(requestId);
    this.#answerReads();
    this.#loop.wake();
    return answer;
  }

  async #install(offer: InstallOffer, staged: StagedSnapshot): Promise<InstallSnapshotAnswer> {
    this.#loop.staged = staged;
    try {
      const request = {
        type: "install_snapshot",
        from: offer.from,
        term: offer.leaderTerm,
        snapshot: staged.meta,
      } as const;
      return (await this.#step(request as Unaddressed<Request>)) as InstallSnapshotAnswer;
    } finally {
      this.#loop.staged = undefined;
    }
  }

  #answerReads(): void {
    for (const { requestId, index } of this.#raft.takeReads()) {
      if (index !== undefined) this.#reads.resolve(requestId, index);
      else this.#reads.reject(requestId, refusal("not_leader", this.id, this.#raft.leader));
    }
  }

  #onRoom(full: boolean, error: CairnError | undefined): void {
    if (!full) {
      this.#logger.info({}, "there is room on the disk again: taking writes");
      return;
    }
    this.#logger.error({ reason: error?.text }, "the disk is full: refusing writes until there is room");
    this.#proposals.failAll("the disk is full; the write is carried out when there is room again");
    this.#waiters.failAll(diskFull());
  }

  #scheduleTick(ms: number): void {
    this.#cancelTick = this.#clock.after(ms, () => {
      try {
        this.#raft.tick();
      } catch (error) {
        // Nobody called this who could be told.
        return this.#fail(error);
      }
      this.#loop.wake();
      this.#scheduleTick(ms);
    });
  }

  #assertRunning(): void {
    if (this.#stopping !== undefined) throw new CairnError("STOPPED", `node ${this.id} has stopped`);
  }
}

/** What the loop ends with when it is stopped in the midst of something that may take long. */
function isInterruption(error: unknown): boolean {
  return error instanceof CairnError && (error.code === "STOPPED" || error.code === "CANCELLED");
}

function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
