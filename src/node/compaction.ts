import { limits } from "../core/limits.js";
import type { Raft } from "../core/raft.js";
import type { SnapshotMeta } from "../core/types.js";
import { CairnError } from "../errors.js";
import type { StateMachine, StateView } from "../machine/state_machine.js";
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
  #last: Promise<unknown> = Promise.resolve();
  readonly #stopped = new AbortController();

  constructor(
    private readonly raft: Raft,
    private readonly storage: NodeStorage<Machine>,
    private readonly options: {
      readonly openMachine: MachineOpener<Machine>;
      readonly trailingLogBytes: number;
      readonly logger: Logger;
    },
  ) {}

  /**
   * Takes a snapshot if the request's condition holds. It is durable and the log is trimmed on return.
   * @throws CairnError OUT_OF_RANGE when the index is not applied yet or the log no longer reaches back to it; FAILED_PRECONDITION when a newer
   * snapshot was installed meanwhile; DISK_FULL; STOPPED
   */
  take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    const turn = this.#last.then(() => this.#take(request));
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Gives up what is being written, and waits until nothing is. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#last;
  }

  async #take(request: SnapshotRequest): Promise<SnapshotOutcome> {
    if (this.#stopped.signal.aborted) throw new CairnError("STOPPED", "the node is stopping");
    const { machine, snapshots } = this.storage;
    const newest = this.raft.snapshot?.index ?? 0;
    if (request.index !== undefined) this.#checkReachable(request.index, newest);
    const index = request.index ?? machine.appliedIndex;
    const unsnapshotted = this.raft.log.last.index - newest;
    const due = request.index !== undefined || unsnapshotted >= (request.thresholdEntries ?? 0);
    if (!due || index === newest) return { taken: false, snapshot: snapshots.newest(), logEntriesTrimmed: 0 };
    const info = await this.#write(index);
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

  async #write(index: number): Promise<SnapshotInfo> {
    if (index === this.storage.machine.appliedIndex) {
      return this.#writeView(await this.storage.machine.capture());
    }
    return this.#writeEarlierState(index);
  }

  async #writeView(view: StateView): Promise<SnapshotInfo> {
    try {
      const meta = this.#metaAt(view.appliedIndex);
      return await this.storage.snapshots.write(meta, view.payload(), { signal: this.#stopped.signal });
    } finally {
      view.release();
    }
  }

  /** Builds the state at an index below the applied one from the snapshot before it and the log. */
  async #writeEarlierState(index: number): Promise<SnapshotInfo> {
    const { directory, log, snapshots } = this.storage;
    const scratch = await this.options.openMachine({ directory: directory.scratch, trustDisk: false });
    try {
      const base = snapshots.newest();
      if (base !== undefined) await scratch.restore(snapshots.openPayload(base), base);
      while (scratch.appliedIndex < index) {
        scratch.apply(await log.entries(scratch.appliedIndex + 1, index, limits.applyBytes));
      }
      return await this.#writeView(await scratch.capture());
    } finally {
      await scratch.crash();
      await directory.fs.removeAll(directory.scratch);
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
    const trimTo = Math.max(before, Math.min(info.index, log.firstIndexKeeping(keepLogBytes) - 1));
    if (!this.raft.snapshotTaken(info, trimTo)) return 0;
    await log.trim(trimTo);
    return trimTo - before;
  }
}
