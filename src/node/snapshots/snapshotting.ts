import { checkWholeNumber } from "../../base/arguments.js";
import { hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { TransferOutcome } from "../../raft/leader/replication.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import type { Clock } from "../../system/clock.js";
import type { Logger } from "../../system/logger.js";
import { checkSnapshotRequest } from "../check_options.js";
import type { NodeHost } from "../host.js";
import type { NodeStorage } from "../open/storage.js";
import type { NodeOptions } from "../options.js";
import { Compactor, type SnapshotOutcome, type SnapshotRequest } from "./compaction.js";
import { type CatchUp, LagMonitor } from "./lag_monitor.js";
import { LogPins } from "./log_pins.js";
import type { LastSnapshot, SnapshotReason } from "./reason.js";
import { type SinceSnapshot, SnapshotScheduler } from "./scheduler.js";
import type { OutgoingTransfer } from "./send_queue.js";

/** Options of a node that concern snapshots. */
export type SnapshottingOptions<Machine extends StateMachine> = Pick<
  NodeOptions<unknown, Machine>,
  "openMachine" | "snapshots" | "trailingLogBytes" | "pinnedLogBytes" | "unixMs"
>;

export interface SnapshottingSurroundings {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Snapshots on their way to followers. */
  transfers(): readonly OutgoingTransfer[];
  /**
   * Lowest index behind which the log is needed for snapshots that are on offer, or retained for
   * the next offer.
   */
  pinnedIndex(): number | undefined;
  /**
   * Watches work: an error that breaks an invariant, or that leaves the contents of the disk
   * unknown, ends the node.
   */
  watch<Result>(work: Promise<Result>): Promise<Result>;
}

/** The policy of a node that takes snapshots only when asked. */
const NEVER = { entries: false, logBytes: false, ageMs: false } as const;

/**
 * Decides when a node takes snapshots and how much log it retains, and watches whether its
 * followers can keep up.
 */
export class Snapshotting<Machine extends StateMachine> {
  readonly #compactor: Compactor<Machine>;
  readonly #scheduler: SnapshotScheduler;
  readonly #pins: LogPins;
  readonly #lagMonitor: LagMonitor;
  readonly #unixMs: () => number;
  #last: LastSnapshot | undefined;
  /** Bytes of log applied since the node started. */
  #writtenBytes = 0;

  constructor(
    private readonly host: NodeHost,
    private readonly storage: NodeStorage<Machine>,
    options: SnapshottingOptions<Machine>,
    private readonly surroundings: SnapshottingSurroundings,
  ) {
    const { clock, logger } = surroundings;
    const { trailingLogBytes = limits.trailingLogBytes, pinnedLogBytes = limits.pinnedLogBytes } = options;
    this.#unixMs = options.unixMs ?? Date.now;
    this.#pins = new LogPins(host, surroundings.transfers, surroundings.pinnedIndex, () => this.#trimAgain());
    this.#compactor = new Compactor(host.raft, storage, {
      openMachine: options.openMachine,
      trailingLogBytes,
      pinnedIndex: () => this.#pins.pinnedIndex,
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
      transfers: surroundings.transfers,
      progress: () => host.raft.progress,
      lastIndex: () => host.raft.log.last.index,
    });
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

  /** See {@link LagMonitor.catchUp}. */
  catchUp(key: string): CatchUp {
    return this.#lagMonitor.catchUp(key);
  }

  /** See {@link Compactor.take}. */
  async take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    checkSnapshotRequest(request);
    return this.surroundings.watch(this.#compactor.take(request));
  }

  /** See {@link Compactor.compact}. */
  async compact(index: number): Promise<number> {
    checkWholeNumber("index", index, 0);
    return this.surroundings.watch(this.#compactor.compact(index));
  }

  /** Counts the entries from `first` to `last`, which were applied. */
  applied(first: number, last: number): void {
    this.#writtenBytes += this.storage.log.bytesBetween(first, last);
    this.#scheduler.applied();
  }

  /** Records a snapshot that a leader has sent and that is installed now. */
  installed(info: SnapshotInfo, durationMs: number): void {
    const { logger } = this.surroundings;
    const facts = { index: info.index, bytes: info.fileBytes, durationMs: Math.round(durationMs) };
    logger.info(facts, "installed a snapshot");
    this.#done(info, "installed", durationMs);
  }

  /** The sending of a snapshot is about to begin. */
  transferBegun(to: string): void {
    this.#lagMonitor.begun(to);
  }

  /** The sending of a snapshot has ended, and the core has been told. */
  transferEnded(to: string, outcome: TransferOutcome): void {
    if (outcome.kind === "installed") this.#pins.installed(to, outcome.matchIndex);
    this.#lagMonitor.ended(to, this.#arrived(outcome), this.host.raft.log.boundary.index);
    this.#pins.look();
  }

  /** Checks pins, followers and the policy. Call this on each tick. */
  tick(): void {
    this.#pins.look();
    this.#lagMonitor.tick();
    this.#scheduler.tick();
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

  #arrived(outcome: TransferOutcome): { index: number; fileBytes: number } | undefined {
    if (outcome.kind !== "installed") return undefined;
    const info = this.storage.snapshots.list().find(({ index }) => index === outcome.matchIndex);
    return { index: outcome.matchIndex, fileBytes: info?.fileBytes ?? 0 };
  }

  #done({ index, fileBytes }: SnapshotInfo, reason: SnapshotReason, durationMs: number): void {
    this.#last = { index, reason, finishedUnixMs: this.#unixMs(), durationMs, fileBytes };
    this.#scheduler.done();
  }

  #trimAgain(): void {
    this.surroundings.watch(this.#compactor.trimAgain()).catch((error) => {
      // The next snapshot trims the log as well.
      if (!hasCode(error, "STOPPED")) this.surroundings.logger.warn({ err: error }, "the log could not be trimmed");
    });
  }
}
