import { limits } from "../core/limits.js";
import type { Raft } from "../core/raft.js";
import type { SnapshotMeta } from "../core/types.js";
import { CairnError, hasCode } from "../errors.js";
import type { StateMachine, StateView } from "../machine/state_machine.js";
import { Serial } from "../storage/serial.js";
import { abortable } from "../storage/snapshots/abortable.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";
import type { Logger } from "./logger.js";
import type { MachineOpener } from "./options.js";
import type { NodeStorage } from "./storage.js";

/** When to take a snapshot, and how much log to keep behind it. */
export interface SnapshotRequest {
  /** Only if the log holds at least so many entries behind the newest snapshot. Default 0. */
  readonly thresholdEntries?: number | undefined;
  /** At exactly this index instead of the last applied one. */
  readonly index?: number | undefined;
  /** Bytes of log to keep although the snapshot covers them. */
  readonly keepLogBytes?: number | undefined;
}

export interface SnapshotOutcome {
  /** False when none was asked for, or there was nothing new to put into one. */
  readonly taken: boolean;
  /** The newest snapshot there is now. */
  readonly snapshot: SnapshotInfo | undefined;
  readonly logEntriesTrimmed: number;
}

/** Takes snapshots, one at a time, and trims the log behind them. Entries go on being applied meanwhile. */
export class Compactor<Machine extends StateMachine> {
  readonly #turns = new Serial();
  readonly #stopped = new AbortController();

  constructor(
    private readonly raft: Raft,
    private readonly storage: NodeStorage<Machine>,
    private readonly options: {
      readonly openMachine: MachineOpener<Machine>;
      readonly trailingLogBytes: number;
      /** Followers that are receiving a snapshot will need the log from behind this index on. */
      readonly pinnedIndex: () => number | undefined;
      readonly logger: Logger;
    },
  ) {}

  /**
   * Takes a snapshot if the request's condition holds. It is durable and the log is trimmed on return.
   * @throws CairnError OUT_OF_RANGE when the index is not applied yet or the log no longer reaches back to it; FAILED_PRECONDITION when a newer
   * snapshot was installed meanwhile; DISK_FULL; STOPPED
   */
  take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    return this.#turns.run(() => this.#take(request));
  }

  /** Gives up what is being written, and waits until nothing is. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#turns.settled();
  }

  async #take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    this.#assertRunning();
    const { machine, snapshots } = this.storage;
    const newest = this.raft.snapshot?.index ?? 0;
    if (request.index !== undefined) this.#checkReachable(request.index, newest);
    const index = request.index ?? machine.appliedIndex;
    const unsnapshotted = this.raft.log.last.index - newest;
    const due = request.index !== undefined || unsnapshotted >= (request.thresholdEntries ?? 0);
    // One that was found damaged since is no longer in the store, and is worth being written again.
    const isThere = index <= (snapshots.newest()?.index ?? 0);
    if (!due || isThere) return { taken: false, snapshot: snapshots.newest(), logEntriesTrimmed: 0 };
    const info = await this.#unlessStopped(this.#write(request.index));
    const logEntriesTrimmed = await this.#trim(info, request.keepLogBytes ?? this.options.trailingLogBytes);
    await snapshots.retain();
    this.options.logger.info({ index: info.index, bytes: info.fileBytes, logEntriesTrimmed }, "took a snapshot");
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
        `the state at index ${index} cannot be built any more: the newest snapshot is at index ${newest}, and what lies before it ` +
          "no longer counts. The lowest index that works is that one.",
      );
    }
  }

  /** Without an index: the state as it is now. */
  async #write(index: number | undefined): Promise<SnapshotInfo> {
    const { machine } = this.storage;
    if (index !== undefined && index !== machine.appliedIndex) return this.#writeEarlierState(index);
    const view = await machine.capture();
    if (index === undefined || view.appliedIndex === index) return this.#writeView(view);
    // A state machine that takes its time to capture has gone on.
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
    // Not simply the newest: one above the index may be installed at any time.
    const base = snapshots.list().find((info) => info.index <= index);
    let scratch: Machine | undefined;
    try {
      scratch = await this.options.openMachine({ directory: directory.scratch, trustDisk: false });
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
          `the state at index ${index} cannot be built any more: the newest snapshot before it is at index ${appliedIndex}, but the log ` +
            `starts at ${log.boundary.index + 1}. Take one without an index.`,
        );
      }
      scratch.apply(await log.entries(appliedIndex + 1, index, limits.applyBytes));
    }
  }

  #metaAt(index: number): SnapshotMeta {
    const term = this.raft.log.termAt(index);
    if (term === undefined) {
      throw new CairnError(
        "FAILED_PRECONDITION",
        `a newer snapshot was installed while the one at index ${index} was begun`,
      );
    }
    return { index, term, membership: this.raft.membershipAt(index) };
  }

  /** Returns the number of entries that left the log. */
  async #trim(info: SnapshotInfo, keepLogBytes: number): Promise<number> {
    const { log } = this.storage;
    const before = this.raft.log.boundary.index;
    // The boundary may be above this snapshot by now: a newer one was installed meanwhile (rule 5).
    const wanted = Math.min(info.index, log.firstIndexKeeping(keepLogBytes) - 1);
    const trimTo = Math.min(info.index, Math.max(before, this.#unpinned(wanted)));
    if (!this.raft.snapshotTaken(info, trimTo)) return 0;
    await log.trim(trimTo);
    return trimTo - before;
  }

  /**
   * Without what followers need that are receiving a snapshot: it would be outdated before they have it. Up to a limit: the disk must stay
   * bounded though one of them never gets anywhere.
   */
  #unpinned(trimTo: number): number {
    const pinned = this.options.pinnedIndex();
    if (pinned === undefined) return trimTo;
    return Math.max(
      Math.min(trimTo, pinned),
      Math.min(trimTo, this.storage.log.firstIndexKeeping(limits.pinnedLogBytes) - 1),
    );
  }

  /** What was broken off because the node stops says so. */
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
