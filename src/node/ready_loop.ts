import { assert } from "../base/assert.js";
import { limits } from "../base/limits.js";
import { applyPrepared } from "../machine/apply_prepared.js";
import type { ApplyResult, StateMachine } from "../machine/state_machine.js";
import type { PeerRequest, Response } from "../raft/messages.js";
import type { Raft } from "../raft/raft.js";
import type { Ready } from "../raft/ready.js";
import type { Entry, HardState, SnapshotMeta } from "../raft/types.js";
import { abortable } from "../storage/snapshots/abortable.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";
import type { StagedSnapshot } from "../storage/snapshots/staged_snapshot.js";
import type { Clock } from "../system/clock.js";
import type { DiskFullRetry } from "./disk_full.js";
import type { WriteWatch } from "./health/write_watch.js";
import type { NodeMeasures } from "./measures/node_measures.js";
import type { NodeStorage } from "./open/storage.js";

type Applied<Result> = readonly ApplyResult<Result>[];

/** Receives what the loop has done with each Ready. */
export interface ReadyObserver<Result> {
  /** Returns the received snapshot that a Ready may ask to install. */
  staged(): StagedSnapshot | undefined;
  /** These entries are applied, with these results. */
  applied(entries: readonly Entry[], results: readonly ApplyResult<Result>[]): void;
  /** A snapshot is installed, and the state is at its index. `durationMs`: time that this took. */
  installed(snapshot: SnapshotInfo, durationMs: number): void;
  /** Sends a message. Everything that the message promises is durable. */
  send(message: Response | PeerRequest): void;
  /** A Ready is carried out: pending reads and waiting callers may continue. */
  advanced(): void;
}

/**
 * Carries out the effects of the core: takes one Ready after the other, carries it out (persist,
 * apply, answer) in the order that {@link Ready} asks for, and reports back. Entries proposed while
 * one batch is being written form the next batch.
 */
export class ReadyLoop<Result, Machine extends StateMachine<Result>> {
  #wake: (() => void) | undefined;
  #endPause: (() => void) | undefined;
  /** Whether a Ready's write is under way. */
  #isWriting = false;
  readonly #stopped = new AbortController();
  /**
   * A snapshot that is being loaded into the state machine, in parallel with the loop. Never
   * rejects.
   */
  #loading: Promise<void> | undefined;
  /** Applies entries in parallel with the loop, once the machine is prepared. Never rejects. */
  #applying: Promise<void> | undefined;
  /** Failure of work in parallel with the loop. */
  #failure: { readonly error: unknown } | undefined;

  constructor(
    private readonly raft: Raft,
    private readonly storage: NodeStorage<Machine>,
    private readonly diskFull: DiskFullRetry,
    private readonly writes: WriteWatch,
    private readonly observer: ReadyObserver<Result>,
    private readonly clock: Clock,
    private readonly measures: Pick<NodeMeasures, "stages" | "batches">,
  ) {}

  /**
   * Takes the next Ready, if the core has one. Call this after giving anything to the core. A Ready
   * that is being carried out comes first.
   */
  wake(): void {
    this.#wake?.();
  }

  /** Runs until {@link stop}; rejects when the node cannot continue. */
  async run(): Promise<void> {
    try {
      while (!this.#stopped.signal.aborted) {
        if (!this.raft.hasReady) await this.#sleep();
        else {
          // Messages leave the process before a write holds this thread up.
          if (this.#leadsDirect) await this.#pause();
          await this.#takeReady();
        }
      }
    } finally {
      this.#stopped.abort();
      await this.#loading;
      await this.#applying;
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /**
   * Makes {@link run} end after the Ready in hand. It does not wait for a snapshot that is being
   * loaded into the state, which may take minutes: it aborts the load, {@link run} rejects with
   * CANCELLED, and the next start finishes the load.
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
   * Yields to the event loop. Only {@link stop} cuts the pause short: callers in this process may
   * wake the loop without letting the event loop run.
   */
  async #pause(): Promise<void> {
    // The timers of a process that is gone may never fire.
    if (this.#stopped.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#endPause = resolve;
      this.clock.soon(resolve);
    });
  }

  /** Whether a leader is about to write entries, which its followers write at the same time. */
  get #leadsDirect(): boolean {
    const { role, log } = this.raft;
    return role === "leader" && log.hasUnpersisted && this.storage.log.isDirect;
  }

  async #takeReady(): Promise<void> {
    const ready = this.raft.ready();
    const before = this.raft.log.applied;
    await this.#carryOut(ready);
    const { applied, commit } = this.raft.log;
    // Backlogged entries are applied without waiting for the disk in between, so yield here.
    if (applied > before && ready.entries.length === 0 && applied < commit) await this.#pause();
  }

  async #carryOut(ready: Ready): Promise<void> {
    // Loading a snapshot replaces the state.
    if (ready.snapshot !== undefined) await this.#applying;
    const load = ready.snapshot === undefined ? undefined : await this.#install(ready.snapshot, ready.hardState);
    // A quick disk comes first: answers of the log need not wait for the state.
    const isQuick = this.storage.log.isDirect;
    const written = this.#write(ready, load);
    if (isQuick) await written;
    // On a slow disk, entries are applied while the write is under way: they are durable already.
    await Promise.all([written, this.#apply(ready.committed).then(() => this.#applyDuringWrite())]);
  }

  /** Makes a Ready durable, then sends what it promises. */
  async #write(ready: Ready, load: (() => Promise<void>) | undefined): Promise<void> {
    this.#isWriting = true;
    try {
      await this.#persist(ready);
    } finally {
      this.#isWriting = false;
      this.wake();
    }
    this.raft.written(ready);
    if (load !== undefined) this.#loading = load();
    for (const message of ready.messages) this.observer.send(message);
    this.observer.advanced();
  }

  /**
   * Applies committed entries until the write has ended. A slow disk must not delay answers and
   * reads of entries that are durable already.
   */
  async #applyDuringWrite(): Promise<void> {
    while (this.#isWriting && !this.#stopped.signal.aborted) {
      await (this.raft.hasCommitted ? this.#pause() : this.#sleep());
      if (this.#isWriting) await this.#apply(this.raft.takeCommitted());
    }
  }

  async #persist({ entries, hardState, mustSync }: Ready): Promise<void> {
    if (entries.length === 0 && hardState === undefined) return;
    const batch = { entries, sync: mustSync, ...(hardState !== undefined && { hardState }) };
    const last = entries.at(-1)?.index ?? 0;
    const { stages, batches } = this.measures;
    if (entries.length > 0) batches.record(entries.length);
    stages.writing(last);
    await this.#writeLog(mustSync, () => this.storage.log.append(batch));
    stages.written(last);
  }

  /**
   * Writes to the log, and retries while the disk is full. The wait for room does not count as slow
   * writing.
   */
  #writeLog(isSynced: boolean, write: () => Promise<void>): Promise<void> {
    return this.diskFull.untilRoom(() => this.writes.measure(isSynced, write));
  }

  async #apply(entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0) return;
    const { machine } = this.storage;
    const prepared = machine.prepare?.(entries);
    if (prepared !== undefined) {
      this.#applying = this.#applyWhenPrepared(entries, prepared);
      return;
    }
    await this.#applyToState(
      entries,
      () => machine.apply(entries),
      () => this.raft.applied(entries),
    );
    this.observer.advanced();
  }

  /** Applies entries while the loop keeps running: votes and the log do not wait for the state. */
  async #applyWhenPrepared(entries: readonly Entry[], prepared: Promise<void>): Promise<void> {
    const { machine } = this.storage;
    this.raft.holdCommitted(true);
    let isFirst = true;
    const apply = () => {
      if (!isFirst) return applyPrepared(machine, entries);
      isFirst = false;
      return prepared.then(() => machine.apply(entries));
    };
    try {
      await this.#applyToState(entries, apply, () => {
        this.raft.applied(entries);
        this.raft.holdCommitted(false);
      });
      this.observer.advanced();
      this.wake();
    } catch (error) {
      this.#failure ??= { error };
      this.stop();
    }
  }

  async #applyToState(
    entries: readonly Entry[],
    apply: () => Applied<Result> | Promise<Applied<Result>>,
    tellCore: () => void,
  ): Promise<void> {
    const results = await this.diskFull.untilRoom(apply);
    tellCore();
    this.observer.applied(entries, results);
  }

  /**
   * Publishes the snapshot, then switches the log; returns the function that loads the state. After
   * a crash at any point, recovery finds a snapshot that is newer than the log or the state, and
   * continues from that snapshot (R8).
   */
  async #install(meta: SnapshotMeta, hardState: HardState | undefined): Promise<() => Promise<void>> {
    const { log } = this.storage;
    const startedMs = this.clock.now();
    const staged = this.observer.staged();
    assert(staged?.meta.index === meta.index && staged.meta.term === meta.term, "the pending snapshot is staged", {
      pending: meta.index,
      staged: staged?.meta.index,
    });
    const info = await this.diskFull.untilRoom(() => staged.publish());
    // The core's commit index may be above the snapshot already, through entries that only the next
    // write puts into the log.
    const atSnapshot = { ...(hardState ?? log.hardState), commit: meta.index };
    // The disk may hold entries behind the snapshot although the core holds none: entries that the
    // core has replaced, while their replacements were not written yet (R4).
    const keepsEntries = this.raft.log.last.index > meta.index;
    await this.#writeLog(true, () =>
      keepsEntries && log.termAt(meta.index) === meta.term ? log.trim(meta.index) : log.reset(meta, atSnapshot),
    );
    return () => this.#load(info, meta, startedMs);
  }

  /**
   * Loads the snapshot into the state while the loop keeps running: votes and the log do not wait
   * for the load.
   */
  async #load(info: SnapshotInfo, meta: SnapshotMeta, startedMs: number): Promise<void> {
    const { machine, snapshots } = this.storage;
    const { signal } = this.#stopped;
    try {
      await this.diskFull.untilRoom(() => machine.restore(abortable(snapshots.openPayload(info), signal), meta));
      await this.diskFull.untilRoom(() => snapshots.retain());
      this.observer.installed(info, this.clock.now() - startedMs);
      await this.#applyFromDisk();
      if (signal.aborted) return;
      this.raft.snapshotInstalled(meta, machine.appliedIndex);
      this.observer.advanced();
    } catch (error) {
      this.#failure ??= { error };
      this.stop();
    }
  }

  /**
   * Applies the entries that were committed while the snapshot was loaded and that are no longer in
   * memory.
   */
  async #applyFromDisk(): Promise<void> {
    const { log, machine } = this.storage;
    while (!this.#stopped.signal.aborted) {
      const [next, last] = [machine.appliedIndex + 1, this.raft.log.firstInMemory - 1];
      if (next > last) return;
      const entries = await log.entries(next, last, limits.applyBytes);
      await this.#applyToState(
        entries,
        () => applyPrepared(machine, entries),
        () => {},
      );
    }
  }
}
