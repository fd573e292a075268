import { assert } from "../base/assert.js";
import { limits } from "../base/limits.js";
import type { ApplyResult, StateMachine } from "../machine/state_machine.js";
import type { PeerRequest, Response } from "../raft/messages.js";
import type { Raft } from "../raft/raft.js";
import type { Ready } from "../raft/ready.js";
import type { Entry, HardState, SnapshotMeta } from "../raft/types.js";
import { abortable } from "../storage/snapshots/abortable.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";
import type { StagedSnapshot } from "../storage/snapshots/staged_snapshot.js";
import type { Clock } from "../system/clock.js";
import type { RoomKeeper } from "./disk_full.js";
import type { WriteWatch } from "./health/write_watch.js";
import type { NodeStorage } from "./open/storage.js";

/** Whom the loop tells what it has done. */
export interface ReadyObserver<Result> {
  /** The received snapshot that a Ready may ask to be installed. */
  staged(): StagedSnapshot | undefined;
  /** Entries are applied, with these results. */
  applied(entries: readonly Entry[], results: readonly ApplyResult<Result>[]): void;
  /** A snapshot is installed: the state is at its index. That took so many milliseconds. */
  installed(snapshot: SnapshotInfo, durationMs: number): void;
  /** What this message promises is durable: send it. */
  send(message: Response | PeerRequest): void;
  /** A Ready is done: reads and waiting callers may go on. */
  advanced(): void;
}

/**
 * Where effects meet the core: takes one Ready after the other from it, carries it out (persist,
 * apply, answer) in the order that {@link Ready} asks for, and reports back. Entries proposed while
 * one batch is being written form the next one.
 */
export class ReadyLoop<Result, Machine extends StateMachine<Result>> {
  #wake: (() => void) | undefined;
  #endPause: (() => void) | undefined;
  readonly #stopped = new AbortController();
  /** A snapshot that is being loaded into the state machine, beside the loop. Never rejects. */
  #loading: Promise<void> | undefined;
  #loadFailure: { readonly error: unknown } | undefined;

  constructor(
    private readonly raft: Raft,
    private readonly storage: NodeStorage<Machine>,
    private readonly room: RoomKeeper,
    private readonly writes: WriteWatch,
    private readonly observer: ReadyObserver<Result>,
    private readonly clock: Clock,
  ) {}

  /**
   * Something was given to the core: looks whether there is a Ready, unless one is being carried
   * out, which comes first.
   */
  wake(): void {
    this.#wake?.();
  }

  /** Runs until {@link stop}; rejects when the node cannot go on. */
  async run(): Promise<void> {
    try {
      while (!this.#stopped.signal.aborted) {
        if (this.raft.hasReady) await this.#takeReady();
        else await this.#sleep();
      }
    } finally {
      this.#stopped.abort();
      await this.#loading;
    }
    if (this.#loadFailure !== undefined) throw this.#loadFailure.error;
  }

  /**
   * {@link run} ends when what is under way is done. Loading a snapshot into the state is not
   * waited for, which may take minutes: it is broken off, {@link run} rejects with CANCELLED, and
   * the next start finishes it.
   */
  stop(): void {
    this.#stopped.abort();
    this.#wake?.();
    this.#endPause?.();
  }

  #sleep(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }

  /**
   * Lets the event loop have its turn. Only {@link stop} cuts that short: callers of this process
   * may wake the loop without one.
   */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#endPause = resolve;
      this.clock.soon(resolve);
    });
  }

  async #takeReady(): Promise<void> {
    const ready = this.raft.ready();
    const before = this.raft.log.applied;
    await this.#carryOut(ready);
    const { applied, commit } = this.raft.log;
    // A backlog is applied without a wait for the disk in between.
    if (applied > before && ready.entries.length === 0 && applied < commit) await this.#pause();
  }

  async #carryOut(ready: Ready): Promise<void> {
    const load = ready.snapshot === undefined ? undefined : await this.#install(ready.snapshot, ready.hardState);
    const written = this.#persist(ready);
    // What is committed is durable already, so it is applied while the write is under way.
    const applied = this.#apply(ready.committed);
    await Promise.all([written, applied.then(() => this.#applyDuring(written))]);
    this.raft.advance(ready);
    if (load !== undefined) this.#loading = load();
    for (const message of ready.messages) this.observer.send(message);
    this.observer.advanced();
  }

  /**
   * Applies what is committed until the write has ended. A disk that takes its time must not hold
   * up answers, and reads, of entries that are durable already.
   */
  async #applyDuring(written: Promise<void>): Promise<void> {
    let isWritten = false;
    const end = () => {
      isWritten = true;
      this.wake();
    };
    written.then(end, end);
    for (;;) {
      // Where nothing was to be written, it has ended by now.
      await undefined;
      if (isWritten) return;
      await (this.raft.hasCommitted ? this.#pause() : this.#sleep());
      if (isWritten) return;
      const entries = this.raft.takeCommitted();
      await this.#apply(entries);
      this.raft.applied(entries);
    }
  }

  async #persist({ entries, hardState, mustSync }: Ready): Promise<void> {
    if (entries.length === 0 && hardState === undefined) return;
    const batch = { entries, sync: mustSync, ...(hardState !== undefined && { hardState }) };
    await this.#write(mustSync, () => this.storage.log.append(batch));
  }

  /** Writes to the log, again and again while the disk is full, which is not taken for slowness. */
  #write(isSynced: boolean, write: () => Promise<void>): Promise<void> {
    return this.room.untilRoom(() => this.writes.measure(isSynced, write));
  }

  async #apply(entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0) return;
    const results = await this.room.untilRoom(() => this.storage.machine.apply(entries));
    this.observer.applied(entries, results);
  }

  /**
   * Publish, then the log, then the state: at whatever point a crash comes, recovery finds a
   * snapshot that is newer than the log or the state, and goes on from there (R8). Returns how the
   * last is done.
   */
  async #install(meta: SnapshotMeta, hardState: HardState | undefined): Promise<() => Promise<void>> {
    const { log } = this.storage;
    const startedMs = this.clock.now();
    const staged = this.observer.staged();
    assert(staged?.meta.index === meta.index && staged.meta.term === meta.term, "the pending snapshot is staged", {
      pending: meta.index,
      staged: staged?.meta.index,
    });
    const info = await this.room.untilRoom(() => staged.publish());
    // The commit index may be above the snapshot already, by entries that are not in the log before
    // the next write.
    const atSnapshot = { ...(hardState ?? log.hardState), commit: meta.index };
    // Where the core has nothing behind the snapshot, the disk may: entries that others had
    // replaced that were not written yet (R4).
    const keepsEntries = this.raft.log.last.index > meta.index;
    await this.#write(true, () =>
      keepsEntries && log.termAt(meta.index) === meta.term ? log.trim(meta.index) : log.reset(meta, atSnapshot),
    );
    return () => this.#load(info, meta, startedMs);
  }

  /**
   * Makes the snapshot the state, while the loop goes on: votes and the log do not wait for that.
   */
  async #load(info: SnapshotInfo, meta: SnapshotMeta, startedMs: number): Promise<void> {
    const { machine, snapshots } = this.storage;
    const { signal } = this.#stopped;
    try {
      await this.room.untilRoom(() => machine.restore(abortable(snapshots.openPayload(info), signal), meta));
      await this.room.untilRoom(() => snapshots.retain());
      this.observer.installed(info, this.clock.now() - startedMs);
      await this.#applyFromDisk();
      if (signal.aborted) return;
      this.raft.snapshotInstalled(meta, machine.appliedIndex);
      this.observer.advanced();
    } catch (error) {
      this.#loadFailure = { error };
      this.stop();
    }
  }

  /**
   * Applies what was committed while the snapshot was loaded, as far as it is not in memory any
   * more.
   */
  async #applyFromDisk(): Promise<void> {
    const { log, machine } = this.storage;
    while (!this.#stopped.signal.aborted) {
      const [next, last] = [machine.appliedIndex + 1, this.raft.log.firstInMemory - 1];
      if (next > last) return;
      await this.#apply(await log.entries(next, last, limits.applyBytes));
    }
  }
}
