import { randomUUID } from "node:crypto";
import { limits } from "../core/limits.js";
import type {
  AppendEntries,
  AppendEntriesAnswer,
  InstallSnapshotAnswer,
  Request,
  RequestVote,
  RequestVoteAnswer,
  Response,
} from "../core/messages.js";
import { type ElectionMode, Raft } from "../core/raft.js";

import { CairnError } from "../errors.js";
import type { StateMachine } from "../machine/state_machine.js";
import { checkId } from "../storage/data_dir.js";
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
import { RoomKeeper } from "./room.js";
import { type InstallOffer, SnapshotInbox } from "./snapshot_inbox.js";
import type { NodeStorage } from "./storage.js";
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
  readonly #running: Promise<void>;
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
    const clock = options.clock ?? systemClock;
    const started = clock.now();
    const recovered = await recover({
      fs: options.fs ?? nodeFileSystem,
      path: options.directory,
      nodeId: options.id,
      clusterId: options.clusterId,
      newClusterId: randomUUID,
      members: options.members ?? [{ id: options.id, address: "", role: "voter" }],
      openMachine: options.openMachine,
      trustState: options.trustState ?? true,
      segmentBytes: options.segmentBytes ?? limits.segmentBytes,
      logger: options.logger ?? silentLogger,
    });
    return new CairnNode(options, recovered, clock, clock.now() - started);
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
    this.inbox = new SnapshotInbox(this.#raft, storage.snapshots, (offer, staged) => this.#install(offer, staged));
    this.#running = this.#loop.run().catch((error) => this.#fail(error));
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
    if (data.byteLength > limits.entryBytes - 64) {
      throw new CairnError(
        "LIMIT_EXCEEDED",
        `a command of ${data.byteLength} bytes exceeds entryBytes (${limits.entryBytes})`,
      );
    }
    if (this.#room.isFull) throw diskFull();
    const proposal = this.#raft.propose(data);
    if ("refused" in proposal) throw this.#refusal(proposal.refused);
    const committed = this.#proposals.wait(proposal.accepted, signal);
    this.#loop.wake();
    return committed;
  }

  /**
   * Waits until the state machine may be read linearizably: its state is then at least as new as any write answered before the call.
   * @throws CairnError NOT_LEADER, CANCELLED
   */
  async linearizableRead(signal?: AbortSignal): Promise<void> {
    this.#assertRunning();
    const requestId = this.#nextRequest++;
    const answer = this.#reads.wait(requestId, signal);
    this.#raft.readIndex(requestId);
    this.#answerReads();
    const index = await answer;
    await this.waitApplied(index, signal);
  }

  /** Waits until this node has applied `index`. @throws CairnError CANCELLED */
  async waitApplied(index: number, signal?: AbortSignal): Promise<void> {
    this.#assertRunning();
    if (this.#storage.machine.appliedIndex < index) await this.#waiters.wait(index, signal);
  }

  /** Takes in a leader's entries; resolves when what the answer promises is durable. @throws CairnError DISK_FULL */
  async appendEntries(message: Unaddressed<AppendEntries>): Promise<AppendEntriesAnswer> {
    if (message.entries.length > 0 && this.#room.isFull) throw diskFull();
    return (await this.#step(message)) as AppendEntriesAnswer;
  }

  /** Takes in a candidate's request; resolves when the vote is durable. */
  async requestVote(message: Unaddressed<RequestVote>): Promise<RequestVoteAnswer> {
    return (await this.#step(message)) as RequestVoteAnswer;
  }

  /** Takes a snapshot and trims the log; see {@link Compactor.take}. */
  async takeSnapshot(request: SnapshotRequest): Promise<SnapshotOutcome> {
    this.#assertRunning();
    return this.#compactor.take(request);
  }

  /**
   * Campaigns now; resolves with the term when this node leads and has committed an entry of its own.
   * @throws CairnError FAILED_PRECONDITION when it cannot
   */
  async campaign(signal?: AbortSignal): Promise<number> {
    this.#assertRunning();
    const reason = this.#raft.campaign();
    if (reason !== undefined) throw new CairnError("FAILED_PRECONDITION", `node ${this.id} cannot campaign: ${reason}`);
    const { term } = this.#raft;
    this.#loop.wake();
    await this.linearizableRead(signal);
    return term;
  }

  /** Stops cleanly: what is being written is finished, and everything that the disk has is synced. May be called more than once. */
  stop(): Promise<void> {
    this.#stopping ??= this.#end(async ({ machine, log, directory }) => {
      await machine.close();
      await log.close();
      await directory.close();
    });
    return this.#stopping;
  }

  /** Stops as if the process had been killed: nothing more is written. For tests of recovery. */
  crash(): Promise<void> {
    this.#stopping ??= this.#end((storage) => abandon(storage));
    return this.#stopping;
  }

  async #end(close: (storage: NodeStorage<Machine>) => Promise<void>): Promise<void> {
    this.#cancelTick();
    this.#loop.stop();
    this.#room.stop();
    await this.#compactor.stop();
    await this.#running;
    this.#failCallers();
    await close(this.#storage);
  }

  /** The node cannot go on. */
  async #fail(error: unknown): Promise<void> {
    if (this.#stopping !== undefined) return;
    this.#logger.error({ err: error }, "the node cannot go on and stops");
    this.#cancelTick();
    this.#failCallers();
    this.#stopping = this.#compactor.stop().then(() => abandon(this.#storage));
    await this.#stopping;
    this.#onFatal(error);
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
    const answer = this.#requests.wait(requestId);
    this.#raft.step({ ...message, requestId } as Request);
    this.#answerReads();
    this.#loop.wake();
    return answer;
  }

  async #install(offer: InstallOffer, staged: StagedSnapshot): Promise<InstallSnapshotAnswer> {
    this.#loop.staged = staged;
    const answer = await this.#step({
      type: "install_snapshot",
      from: offer.from,
      term: offer.leaderTerm,
      snapshot: staged.meta,
    } as Unaddressed<Request>);
    return answer as InstallSnapshotAnswer;
  }

  #answerReads(): void {
    for (const { requestId, index } of this.#raft.takeReads()) {
      if (index !== undefined) this.#reads.resolve(requestId, index);
      else this.#reads.reject(requestId, this.#refusal("not_leader"));
    }
  }

  #refusal(reason: "not_leader" | "queue_full"): CairnError {
    if (reason === "queue_full") {
      const text = `too many writes are waiting to be committed: uncommittedBytes is ${limits.uncommittedBytes}. Try later.`;
      return new CairnError("BUSY", text);
    }
    const { leader } = this.#raft;
    const hint = leader === undefined || leader === this.id ? "no leader is known" : `the leader is ${leader}`;
    return new CairnError("NOT_LEADER", `node ${this.id} is not the leader: ${hint}`, { leaderHint: leader });
  }

  #onRoom(full: boolean, error: CairnError | undefined): void {
    if (!full) {
      this.#logger.info({}, "there is room on the disk again: taking writes");
      return;
    }
    this.#logger.error({ err: error }, "the disk is full: refusing writes until there is room");
    this.#proposals.failAll("the disk is full; the write is carried out when there is room again");
  }

  #scheduleTick(ms: number): void {
    this.#cancelTick = this.#clock.after(ms, () => {
      this.#raft.tick();
      this.#loop.wake();
      this.#scheduleTick(ms);
    });
  }

  #assertRunning(): void {
    if (this.#stopping !== undefined) throw new CairnError("STOPPED", `node ${this.id} has stopped`);
  }
}

async function abandon({ machine, log, directory }: NodeStorage<StateMachine>): Promise<void> {
  await machine.crash();
  await log.crash();
  directory.crash();
}

function diskFull(): CairnError {
  return new CairnError("DISK_FULL", "the disk is full: free some space; writes resume by themselves");
}

function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
