import { checkWholeNumber } from "../../base/arguments.js";
import { hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import type { Clock } from "../../system/clock.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";
import { checkSnapshotRequest } from "../check_options.js";
import type { NodeHost } from "../host.js";
import type { NodeMeasures } from "../measures/node_measures.js";
import type { NodeStorage } from "../open/storage.js";
import type { NodeOptions } from "../options.js";
import type { Peers } from "../peers.js";
import { Bandwidth } from "./bandwidth.js";
import { Compactor, type SnapshotOutcome, type SnapshotRequest } from "./compaction.js";
import { type CatchUp, LagMonitor } from "./lag_monitor.js";
import { LogPins } from "./log_pins.js";
import type { LastSnapshot, RetentionView, SnapshotReason } from "./reason.js";
import { type SinceSnapshot, SnapshotScheduler } from "./scheduler.js";
import { type OutgoingTransfer, SendQueue } from "./send_queue.js";

/** Options of a node that concern snapshots. */
export type SnapshottingOptions<Machine extends StateMachine> = Pick<
  NodeOptions<unknown, Machine>,
  | "openMachine"
  | "snapshots"
  | "trailingLogBytes"
  | "pinnedLogBytes"
  | "unixMs"
  | "snapshotChunkBytes"
  | "snapshotBandwidth"
  | "snapshotCompression"
  | "transferResumeMs"
>;

/** The parts of a node that {@link Snapshotting} uses. */
export interface SnapshottingParts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Opens the streams of transfers. */
  readonly peers: Pick<Peers, "openInstall">;
  readonly measures: Pick<NodeMeasures, "snapshot" | "transferred">;
}

/** The policy of a node that takes snapshots only when asked. */
const NEVER = { entries: false, logBytes: false, ageMs: false } as const;

/**
 * Decides when a node takes snapshots and how much log it retains, sends snapshots to followers,
 * and watches whether they can keep up.
 */
export class Snapshotting<Machine extends StateMachine> {
  readonly #compactor: Compactor<Machine>;
  readonly #scheduler: SnapshotScheduler;
  readonly #pins: LogPins;
  readonly #lagMonitor: LagMonitor;
  readonly #queue: SendQueue;
  readonly #unixMs: () => number;
  #last: LastSnapshot | undefined;
  /** Bytes of log applied since the node started. */
  #writtenBytes = 0;

  constructor(
    private readonly host: NodeHost,
    private readonly storage: NodeStorage<Machine>,
    options: SnapshottingOptions<Machine>,
    private readonly parts: SnapshottingParts,
  ) {
    const { clock, logger, peers, measures } = parts;
    const { trailingLogBytes = limits.trailingLogBytes, pinnedLogBytes = limits.pinnedLogBytes } = options;
    this.#unixMs = options.unixMs ?? Date.now;
    this.#pins = new LogPins(host.raft, () => this.#trimAgain());
    this.#compactor = new Compactor(host, storage, {
      openMachine: options.openMachine,
      trailingLogBytes,
      pins: this.#pins,
      pinnedLogBytes,
      taken: (info, reason, durationMs) => this.#done(info, reason, durationMs),
      clock,
      logger,
    });
    this.#lagMonitor = new LagMonitor({
      clock,
      logger,
      keptBytes: Math.max(trailingLogBytes, pinnedLogBytes),
      writtenBytes: () => this.#writtenBytes,
      progress: () => host.raft.progress,
      lastIndex: () => host.raft.log.last.index,
    });
    const { snapshotBandwidth } = options;
    this.#queue = new SendQueue(host, {
      snapshots: storage.snapshots,
      ...{ clock, logger, peers, measures, pins: this.#pins, lagMonitor: this.#lagMonitor },
      idleMs: limits.transferIdleMs,
      chunkBytes: options.snapshotChunkBytes ?? limits.installChunkBytes,
      resumeMs: options.transferResumeMs ?? limits.transferResumeMs,
      atOnce: limits.outgoingTransfers,
      bandwidth: snapshotBandwidth === undefined ? undefined : new Bandwidth(snapshotBandwidth, clock),
      compression: options.snapshotCompression,
      takeSnapshot: () => this.#takeForFollower(),
    });
    this.#pins.connect(this.#queue);
    this.#scheduler = new SnapshotScheduler({
      policy: options.snapshots === false ? NEVER : (options.snapshots ?? {}),
      clock,
      logger,
      since: () => this.#since(),
      isMissing: () => this.#isMissing(),
      leadsOthers: () => this.#leadsOthers(),
      take: async (reason) => (await this.take({ reason })).taken,
    });
  }

  get last(): LastSnapshot | undefined {
    return this.#last;
  }

  /** Warnings for an operator about snapshots, as text. */
  get warnings(): string[] {
    const damaged = this.storage.snapshots.damaged().map(({ path, reason }) => `${path} must not be used: ${reason}`);
    const failure = this.#scheduler.failure;
    const failed = failure === undefined ? [] : [`a snapshot is due and could not be taken: ${failure}`];
    return [...failed, ...damaged, ...this.#lagMonitor.warnings];
  }

  get retention(): RetentionView {
    const { log } = this.storage;
    const pinned = this.#pins.pinnedIndex;
    return {
      bytesSinceSnapshot: this.#since().bytes,
      pinnedBytes: pinned === undefined ? 0 : log.bytesBetween(pinned + 1, this.host.raft.log.last.index),
      margins: this.#lagMonitor.margins(this.transfers),
    };
  }

  /** Snapshot transfers to followers that are under way. */
  get transfers(): readonly OutgoingTransfer[] {
    return this.#queue.list();
  }

  /** See {@link LagMonitor.catchUp}. */
  catchUp(key: string): CatchUp {
    return this.#lagMonitor.catchUp(key);
  }

  /** See {@link Compactor.take}. */
  async take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    checkSnapshotRequest(request);
    return this.host.ending.watch(this.#compactor.take(request));
  }

  /** See {@link Compactor.compact}. */
  async compact(index: number): Promise<number> {
    checkWholeNumber("index", index, 0);
    return this.host.ending.watch(this.#compactor.compact(index));
  }

  /** Counts the entries from `first` to `last`, which were applied. */
  applied(first: number, last: number): void {
    this.#writtenBytes += this.storage.log.bytesBetween(first, last);
    this.#scheduler.applied();
  }

  /** Records a snapshot that a leader has sent and that is installed now. */
  installed(info: SnapshotInfo, durationMs: number): void {
    const facts: LogFacts = { snapshotIndex: info.index, bytes: info.fileBytes, durationMs: Math.round(durationMs) };
    this.parts.logger.info(facts, "installed a snapshot");
    this.#done(info, "installed", durationMs);
  }

  /** Sends the snapshots that the core wants for its followers; see {@link SendQueue.serve}. */
  serve(): void {
    this.#queue.serve();
  }

  /** Checks pins, followers and the policy. Call this on each tick. */
  tick(): void {
    this.#pins.look();
    this.#lagMonitor.tick(this.transfers);
    this.#scheduler.tick();
  }

  /** Ends all transfers, and waits until none reads from disk. */
  async stopSending(): Promise<void> {
    await this.#queue.stop();
  }

  /** Aborts snapshots that are being written, and waits until none is. */
  async stop(): Promise<void> {
    this.#scheduler.stop();
    await this.#compactor.stop();
  }

  #since(): SinceSnapshot {
    const { log, machine, snapshots } = this.storage;
    const from = this.host.raft.snapshot?.index ?? 0;
    const { appliedIndex } = machine;
    return {
      entries: appliedIndex - from,
      bytes: log.bytesBetween(from + 1, appliedIndex),
      snapshotBytes: snapshots.newest()?.fileBytes ?? 0,
    };
  }

  /**
   * Whether the log begins above every good snapshot. False while a snapshot is being loaded: the
   * state is still behind the log's start then.
   */
  #isMissing(): boolean {
    const { log, machine, snapshots } = this.storage;
    const start = log.boundary.index;
    return start > (snapshots.newest()?.index ?? 0) && machine.appliedIndex >= start;
  }

  #leadsOthers(): boolean {
    const { raft } = this.host;
    const voters = raft.membership.members.filter(({ role }) => role === "voter").map(({ id }) => id);
    return raft.progress.some(({ id, state, isActive }) => isActive && state === "replicate" && voters.includes(id));
  }

  async #takeForFollower(): Promise<SnapshotInfo | undefined> {
    this.host.ending.assertRunning();
    return (await this.take({ reason: "follower" })).snapshot;
  }

  #done({ index, fileBytes }: SnapshotInfo, reason: SnapshotReason, durationMs: number): void {
    this.#last = { index, reason, finishedUnixMs: this.#unixMs(), durationMs, fileBytes };
    this.parts.measures.snapshot(this.#last);
    this.#scheduler.done();
  }

  #trimAgain(): void {
    this.host.ending.watch(this.#compactor.trimAgain()).catch((error) => {
      // The next snapshot trims the log as well.
      if (!hasCode(error, "STOPPED")) this.parts.logger.warn({ err: error }, "the log could not be trimmed");
    });
  }
}
