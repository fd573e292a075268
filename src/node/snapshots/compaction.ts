import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { applyPrepared } from "../../machine/apply_prepared.js";
import type { StateMachine, StateView } from "../../machine/state_machine.js";
import type { SnapshotMeta } from "../../raft/types.js";
import { abortable } from "../../storage/snapshots/abortable.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import type { Clock } from "../../system/clock.js";
import type { LogFacts } from "../../system/log_fields.js";
import type { Logger } from "../../system/logger.js";
import { Serial } from "../../system/serial.js";
import type { NodeHost } from "../host.js";
import type { NodeStorage } from "../open/storage.js";
import type { MachineOpener } from "../options.js";
import type { LogPins } from "./log_pins.js";
import type { SnapshotDone, SnapshotReason } from "./reason.js";

/** Says when to take a snapshot, and how much log to retain behind it. */
export interface SnapshotRequest {
  /** Only if the log holds at least this many entries behind the newest snapshot. Default 0. */
  readonly thresholdEntries?: number | undefined;
  /** Takes the snapshot at exactly this index. Default: the last applied index. */
  readonly index?: number | undefined;
  /**
   * Bytes of log to retain although the snapshot covers them. Default: the node's setting, and all
   * entries behind the second newest snapshot, so that a damaged newest one can be replaced (T7).
   */
  readonly keepLogBytes?: number | undefined;
  /** Reason for the snapshot. Default `requested`. */
  readonly reason?: SnapshotReason | undefined;
}

export interface SnapshotOutcome {
  /** False when the condition did not hold, or there was nothing new to put into a snapshot. */
  readonly taken: boolean;
  /** The newest snapshot now. */
  readonly snapshot: SnapshotInfo | undefined;
  readonly logEntriesTrimmed: number;
}

/**
 * Takes snapshots, one at a time, and trims the log behind them. The node keeps applying entries
 * meanwhile.
 */
export class Compactor<Machine extends StateMachine> {
  readonly #turns = new Serial();
  readonly #stopped = new AbortController();
  /** The pinned index past which the log was trimmed last. */
  #outgrown: number | undefined;

  constructor(
    private readonly host: NodeHost,
    private readonly storage: NodeStorage<Machine>,
    private readonly options: {
      readonly openMachine: MachineOpener<Machine>;
      readonly trailingLogBytes: number;
      /** The log that followers which are catching up by snapshot will need. */
      readonly pins: Pick<LogPins, "pinnedIndex">;
      /** Maximum bytes of log retained for these followers. */
      readonly pinnedLogBytes: number;
      /** Called when a snapshot was taken and is durable. */
      readonly taken: SnapshotDone;
      readonly clock: Clock;
      readonly logger: Logger;
    },
  ) {}

  /**
   * Takes a snapshot if the request's condition holds. On return it is durable and the log is
   * trimmed.
   * @throws CairnError OUT_OF_RANGE when the index is not applied yet or the log no longer reaches
   * back to it; FAILED_PRECONDITION when a newer snapshot was installed meanwhile; DISK_FULL;
   * STOPPED
   */
  take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    return this.#turns.run(() => this.#take(request));
  }

  /**
   * Trims the log up to `index` (0: up to the newest snapshot), including entries that are normally
   * retained for slow followers or in case that snapshot is damaged, but not the entries pinned for
   * followers that are catching up by snapshot. Durable on return. Returns the first index that is
   * left.
   * @throws CairnError OUT_OF_RANGE when no snapshot on disk covers that index; DISK_FULL; STOPPED
   */
  compact(index: number): Promise<number> {
    return this.#turns.run(async () => {
      this.#assertRunning();
      const { log } = this.storage;
      const covered = this.#covered;
      if (index > covered) {
        const there = covered === 0 ? "there is no snapshot" : `the newest snapshot is at index ${covered}`;
        throw new CairnError("OUT_OF_RANGE", `the log cannot be trimmed up to index ${index}: ${there}`);
      }
      await this.#trimTo(this.#unpinned(index === 0 ? covered : index));
      // A trim that removes no segment is not durable without a sync.
      await log.append({ entries: [], sync: true });
      return log.boundary.index + 1;
    });
  }

  /**
   * Trims the log again and removes old snapshots, after followers no longer need what was retained
   * for them.
   */
  trimAgain(): Promise<void> {
    return this.#turns.run(async () => {
      this.#assertRunning();
      await this.#trimTo(this.#unpinned(this.#wanted(undefined)));
      await this.storage.snapshots.retain();
    });
  }

  /** Aborts snapshots that are being written, and waits until none is. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#turns.settled();
  }

  async #take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    this.#assertRunning();
    const { machine, snapshots } = this.storage;
    const newest = this.host.raft.snapshot?.index ?? 0;
    if (request.index !== undefined) this.#checkReachable(request.index, newest);
    const index = request.index ?? machine.appliedIndex;
    const unsnapshotted = this.host.raft.log.last.index - newest;
    const due = request.index !== undefined || unsnapshotted >= (request.thresholdEntries ?? 0);
    // A snapshot that was found damaged since is not in the store, and is worth writing again.
    const isThere = index <= (snapshots.newest()?.index ?? 0);
    if (!due || isThere) return { taken: false, snapshot: snapshots.newest(), logEntriesTrimmed: 0 };
    const { clock, taken, logger } = this.options;
    const startedMs = clock.now();
    const { reason = "requested" } = request;
    const info = await this.#unlessStopped(this.#write(request.index));
    const durationMs = clock.now() - startedMs;
    const logEntriesTrimmed = await this.#trim(info, request.keepLogBytes, () => taken(info, reason, durationMs));
    await snapshots.retain();
    const { index: snapshotIndex, fileBytes: bytes } = info;
    const facts: LogFacts = {
      snapshotIndex,
      reason,
      bytes,
      durationMs: Math.round(durationMs),
      entries: logEntriesTrimmed,
    };
    logger.info(facts, "took a snapshot");
    return { taken: true, snapshot: snapshots.newest(), logEntriesTrimmed };
  }

  #checkReachable(index: number, newest: number): void {
    const { appliedIndex } = this.storage.machine;
    if (index > appliedIndex) {
      throw new CairnError(
        "OUT_OF_RANGE",
        `index ${index} is not applied yet: the last applied index is ${appliedIndex}`,
      );
    }
    if (index < newest) {
      throw new CairnError(
        "OUT_OF_RANGE",
        `the state at index ${index} can no longer be built: the newest snapshot is at index ${newest}, and earlier ones ` +
          "are not used. That index is the lowest that works.",
      );
    }
  }

  /** Writes a snapshot at `index`; without an index, of the present state. */
  async #write(index: number | undefined): Promise<SnapshotInfo> {
    const { machine } = this.storage;
    if (index !== undefined && index !== machine.appliedIndex) return this.#writeEarlierState(index);
    const view = await machine.capture();
    if (index === undefined || view.appliedIndex === index) return this.#writeView(view);
    // A slow capture: the state machine has applied more entries meanwhile.
    view.release();
    return this.#writeEarlierState(index);
  }

  async #writeView(view: StateView): Promise<SnapshotInfo> {
    try {
      const meta = this.#metaAt(view.appliedIndex);
      return await this.#writeFile(meta, view);
    } finally {
      view.release();
    }
  }

  #writeFile(meta: SnapshotMeta, view: StateView): Promise<SnapshotInfo> {
    const { snapshots } = this.storage;
    const options = { signal: this.#stopped.signal };
    if (view.snapshotFile === undefined) return snapshots.write(meta, view.payload(), options);
    return snapshots.writeEncoded(meta, view.snapshotFile.bind(view), options);
  }

  /** Builds the state at an index below the applied one from the snapshot before it and the log. */
  async #writeEarlierState(index: number): Promise<SnapshotInfo> {
    const { directory, snapshots } = this.storage;
    // Not just the newest: one above the index may be installed at any time.
    const base = snapshots.list().find((info) => info.index <= index);
    let scratch: Machine | undefined;
    try {
      scratch = await this.options.openMachine({
        directory: directory.scratch,
        trustDisk: false,
        clusterId: directory.identity.clusterId,
      });
      if (base !== undefined) {
        await scratch.restore(abortable(snapshots.openPayload(base), this.#stopped.signal), base);
      }
      await this.#applyLog(scratch, index);
      return await this.#writeView(await scratch.capture());
    } finally {
      await scratch?.crash();
      await directory.fs.removeAll(directory.scratch);
    }
  }

  async #applyLog(scratch: Machine, index: number): Promise<void> {
    const { log } = this.storage;
    while (scratch.appliedIndex < index) {
      this.#assertRunning();
      const { appliedIndex } = scratch;
      if (log.boundary.index > appliedIndex) {
        throw new CairnError(
          "OUT_OF_RANGE",
          `the state at index ${index} can no longer be built: the newest snapshot before it is at index ${appliedIndex}, but the log ` +
            `starts at ${log.boundary.index + 1}. Take one without an index.`,
        );
      }
      await applyPrepared(scratch, await log.entries(appliedIndex + 1, index, limits.applyBytes));
    }
  }

  #metaAt(index: number): SnapshotMeta {
    const term = this.host.raft.log.termAt(index);
    if (term === undefined) {
      throw new CairnError(
        "FAILED_PRECONDITION",
        `a newer snapshot was installed while the one at index ${index} was begun`,
      );
    }
    return { index, term, membership: this.host.raft.membershipAt(index) };
  }

  /**
   * Trims the log behind a new snapshot, and returns the number of entries that left the log.
   * `isNewest`: called when the core knows the snapshot as its newest one.
   */
  async #trim(info: SnapshotInfo, keepLogBytes: number | undefined, isNewest: () => void): Promise<number> {
    const before = this.host.raft.log.boundary.index;
    // The boundary may be above this snapshot by now: a newer one was installed meanwhile (R5).
    const trimTo = Math.min(info.index, Math.max(before, this.#unpinned(this.#wanted(keepLogBytes, info.index))));
    if (!this.host.core((raft) => raft.snapshotTaken(info, trimTo))) return 0;
    isNewest();
    await this.storage.log.trim(trimTo);
    this.storage.machine.logTrimmed?.(trimTo);
    return trimTo - before;
  }

  /**
   * Trims the log without a new snapshot. An installation in progress trims at least as far, so
   * this leaves the log alone then.
   */
  async #trimTo(index: number): Promise<void> {
    if (this.host.raft.isInstalling || index <= this.storage.log.boundary.index) return;
    this.host.core((raft) => raft.trimLog(index));
    await this.storage.log.trim(index);
    this.storage.machine.logTrimmed?.(index);
  }

  /** The newest index that a good snapshot on disk covers, as far as the core knows. */
  get #covered(): number {
    return Math.min(this.storage.snapshots.newest()?.index ?? 0, this.host.raft.snapshot?.index ?? 0);
  }

  /**
   * Returns the index up to which to trim behind the snapshot at `covered`, retaining
   * `keepLogBytes`. By default not beyond the second newest snapshot: it and the log replace the
   * newest one if that is damaged.
   */
  #wanted(keepLogBytes: number | undefined, covered = this.#covered): number {
    const { log } = this.storage;
    const wanted = Math.min(covered, log.firstIndexKeeping(keepLogBytes ?? this.options.trailingLogBytes) - 1);
    return keepLogBytes === undefined ? Math.min(wanted, this.#secondNewest(covered)) : wanted;
  }

  /**
   * Returns the index of the newest good snapshot below `covered`; without one, the log's boundary,
   * so that the log stays as it is.
   */
  #secondNewest(covered: number): number {
    const { log, snapshots } = this.storage;
    return snapshots.list().find(({ index }) => index < covered)?.index ?? log.boundary.index;
  }

  /**
   * Caps the trim point at the pinned log, up to `pinnedLogBytes`: without that log, a snapshot
   * would be outdated before its follower has it. The limit keeps the disk bounded even if a
   * follower never catches up.
   */
  #unpinned(trimTo: number): number {
    const { pinnedIndex } = this.options.pins;
    if (pinnedIndex === undefined || trimTo <= pinnedIndex) return trimTo;
    const { pinnedLogBytes, logger } = this.options;
    const most = this.storage.log.firstIndexKeeping(pinnedLogBytes) - 1;
    if (most <= pinnedIndex) return pinnedIndex;
    if (this.#outgrown !== pinnedIndex) {
      const text =
        "the log that a follower will need has outgrown the bytes kept for it: it will be sent a newer snapshot";
      logger.warn({ snapshotIndex: pinnedIndex, limit: "pinnedLogBytes", bytes: pinnedLogBytes }, text);
    }
    this.#outgrown = pinnedIndex;
    return Math.min(trimTo, most);
  }

  /** Turns the CANCELLED of work that was aborted because the node stops into STOPPED. */
  async #unlessStopped<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (hasCode(error, "CANCELLED")) this.#assertRunning();
      throw error;
    }
  }

  #assertRunning(): void {
    if (this.#stopped.signal.aborted) throw new CairnError("STOPPED", "the node is stopping");
  }
}
