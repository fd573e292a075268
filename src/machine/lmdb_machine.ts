import type { CommandResult } from "../../gen/cairn/v1/storage_pb.js";
import { assert } from "../base/assert.js";
import { CairnError, isShortage } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { Entry, LogPosition, SnapshotMeta } from "../raft/types.js";
import { type FileSystem, nodeFileSystem } from "../system/fs.js";
import { applyEntries, assertFollow, commandsOf } from "./kv/apply.js";
import { type ChangeHistory, KeptRecords } from "./kv/effects/change_history.js";
import { EffectNotes } from "./kv/effects/effect_notes.js";
import { KeyRange, type KeyRangeOptions, type KeyValueMachine } from "./kv/key_value_machine.js";
import type { StoredLease } from "./kv/leases/lease_store.js";
import { copyOf, type KeyEntry, type KeyRecord } from "./kv/record_store.js";
import { DEFAULT_SESSION_LIMITS, NEWEST_RULES, type SessionLimits } from "./kv/session_limits.js";
import { SessionTable } from "./kv/sessions.js";
import { type BootId, LmdbDirectory, linuxBootId } from "./lmdb/directory.js";
import { spaceFor } from "./lmdb/disk_space.js";
import { LmdbHistory } from "./lmdb/effects/lmdb_history.js";
import { LmdbEnvironment, type LmdbSnapshot } from "./lmdb/environment.js";
import { prepareNew } from "./lmdb/files.js";
import { closedOnError, openView } from "./lmdb/open.js";
import type { ApplyResult } from "./state_machine.js";
import { StateWorker } from "./worker/state_worker.js";
import type { WorkerView } from "./worker/worker_view.js";

// The key-value state machine of a running node, with its state in LMDB.

export interface LmdbMachineOptions {
  /**
   * Directory of the state, made when it is missing. Nothing else may be in it, and only one
   * machine may have it open.
   */
  readonly directory: string;
  /** File system of the directory, for the few files that are not LMDB's. */
  readonly fs?: FileSystem | undefined;
  /**
   * "auto" reuses the state after a clean close or a crash of the process; "rebuild" throws it
   * away.
   */
  readonly trust?: "auto" | "rebuild" | undefined;
  readonly bootId?: BootId | undefined;
  readonly sessionLimits?: SessionLimits | undefined;
  /** Milliseconds after which an opening has lasted. Default limits.stateOpeningMs. */
  readonly openingMs?: number | undefined;
}

/**
 * The key-value machine on LMDB. Its state may be larger than memory, and reopens as fast as it can
 * be read. The state on disk is a view of snapshot and log: commits are not synced, and after a
 * power failure the machine opens empty, to be restored and replayed. So it does after damage was
 * found (T7).
 */
export class LmdbMachine implements KeyValueMachine {
  #applied: LogPosition;
  /** Undefined after a transaction has failed: it is then read again from the state. */
  #sessions: SessionTable | undefined;
  readonly #notes = new EffectNotes();
  readonly #kept = new KeptRecords();
  readonly history: ChangeHistory = new LmdbHistory(
    () => this.environment,
    (read) => this.#noticing(read),
    this.#kept,
  );
  #restoring: Promise<void> | undefined;
  /** Ranges that have not ended yet. */
  readonly #ranges = new Set<KeyRange>();
  /** Reads captured states, and writes snapshots into new ones. */
  readonly #worker = new StateWorker();
  /** Removals of replaced environments that are under way. */
  readonly #removals = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #damaged = new AbortController();
  /** Timer of the present opening, which runs until the opening has lasted. */
  #opening: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;
  #crashed = false;

  private constructor(
    private readonly fs: FileSystem,
    private readonly directory: LmdbDirectory,
    private readonly sessionLimits: SessionLimits,
    private readonly openingMs: number,
    /** Name of the view in force. */
    private name: string,
    private environment: LmdbEnvironment,
    /**
     * Reason why the machine opened empty: the node then restores a snapshot and replays the log.
     * Undefined when the state was reused.
     */
    readonly rebuildReason: string | undefined,
  ) {
    const applied = environment.readMark();
    assert(applied !== undefined, "an open state has an applied position", { path: environment.path });
    this.#applied = { index: applied.index, term: applied.term };
    this.#awaitOpened();
  }

  /**
   * Opens the state, empty when the one on disk cannot be trusted. Throws CairnError DISK_FULL or
   * STORAGE_FAILED.
   */
  static async open(options: LmdbMachineOptions): Promise<LmdbMachine> {
    const { directory: path, fs = nodeFileSystem, trust = "auto", bootId = linuxBootId } = options;
    const { sessionLimits = DEFAULT_SESSION_LIMITS, openingMs = limits.stateOpeningMs } = options;
    const directory = await LmdbDirectory.open(fs, path, bootId);
    const view = await openView(fs, directory, trust);
    await closedOnError(view.environment, () => directory.removeOthers(view.name));
    return new LmdbMachine(fs, directory, sessionLimits, openingMs, view.name, view.environment, view.reason);
  }

  get appliedIndex(): number {
    return this.#applied.index;
  }

  /** Whether the state on disk was thrown away when the machine was opened. */
  get rebuilt(): boolean {
    return this.rebuildReason !== undefined;
  }

  /** Implements StateMachine. A read or an apply that finds damage also throws the error. */
  get damaged(): AbortSignal {
    return this.#damaged.signal;
  }

  readonly newestRules = NEWEST_RULES;

  get rulesInForce(): number {
    const isOpen = !this.#stop.signal.aborted && !this.#damaged.signal.aborted;
    return isOpen ? this.#table().rules : 0;
  }

  get keyCount(): number {
    this.#assertRunning();
    return this.environment.records.count;
  }

  get sessionCount(): number {
    this.#assertRunning();
    return this.#table().size;
  }

  get leaseCount(): number {
    this.#assertRunning();
    return this.environment.leases.count;
  }

  apply(entries: readonly Entry[]): readonly ApplyResult<CommandResult>[] {
    this.#assertRunning();
    assertFollow(entries, this.#applied);
    const last = entries.at(-1);
    if (last === undefined) return [];
    const { environment } = this;
    const commands = commandsOf(entries);
    const sessions = this.#table();
    // Set again at the end: a transaction that fails takes the table's changes with it.
    this.#sessions = undefined;
    const notes = this.#notes;
    notes.clear(this.#kept.isKeeping);
    const results = this.#noticing(() =>
      environment.transaction(
        () => {
          const { records, leases } = environment;
          const results = applyEntries(entries, commands, records, leases, sessions, notes);
          environment.effects.write(last.index, notes.bytes, notes.clearedAt);
          environment.writeApplied(last);
          return results;
        },
        spaceFor(entries, commands, (lease) => environment.leases.get(Number(lease))?.keys ?? 0),
      ),
    );
    this.#sessions = sessions;
    this.#applied = { index: last.index, term: last.term };
    this.#kept.add(notes.recordsBefore);
    return results;
  }

  get(key: Uint8Array): KeyRecord | undefined {
    this.#assertRunning();
    return this.#noticing(() => this.environment.records.getCopy(key));
  }

  range({ prefix = NO_BYTES, after = NO_BYTES, limit = Number.POSITIVE_INFINITY }: KeyRangeOptions = {}): KeyRange {
    this.#assertRunning();
    const snapshot = this.environment.snapshot();
    const { name } = this;
    const entries = copies(limit, snapshot.records.entries(snapshot.transaction, prefix, after), (error) =>
      this.#notice(error, name),
    );
    const range = new KeyRange(entries, (ended) => this.#ended(ended, snapshot));
    this.#ranges.add(range);
    return range;
  }

  lease(id: number): StoredLease | undefined {
    this.#assertRunning();
    return this.#noticing(() => this.environment.leases.get(id));
  }

  leases(after: number, limit: number): StoredLease[] {
    this.#assertRunning();
    return this.#noticing(() => this.environment.leases.list(after, limit));
  }

  leaseKeys(id: number): Uint8Array[] {
    this.#assertRunning();
    return this.#noticing(() => this.environment.leases.keysOf(id));
  }

  /**
   * Implements StateMachine. Throws CairnError BUSY when there are too many readers, INTERNAL when
   * the worker thread dies.
   */
  async capture(): Promise<WorkerView> {
    this.#assertRunning();
    const { environment, name } = this;
    try {
      const view = await this.#worker.capture(environment.path, environment.retain());
      view.failed.addEventListener("abort", () => this.#notice(view.failed.reason, name));
      return view;
    } catch (error) {
      this.#notice(error, name);
      throw error;
    }
  }

  /**
   * Implements StateMachine. Needs room for both states. One restore at a time; it also replaces
   * entries that are applied meanwhile.
   */
  async restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta): Promise<void> {
    this.#assertRunning();
    if (this.#restoring !== undefined) throw new CairnError("FAILED_PRECONDITION", "a restore is under way");
    const restored = this.#restore(payload, { index: at.index, term: at.term });
    this.#restoring = restored.catch(() => undefined);
    try {
      await restored;
    } finally {
      this.#restoring = undefined;
    }
  }

  logTrimmed(index: number): void {
    this.history.forget(index);
  }

  /**
   * Syncs the state and marks it clean, so that the next opening trusts it in any case. Throws
   * CairnError STORAGE_FAILED.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  crash(): Promise<void> {
    // A close that failed has released everything all the same.
    if (this.#closed !== undefined) return this.#closed.catch(() => undefined);
    this.#crashed = true;
    this.#closed = this.#letGo();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#letGo();
    if (this.#damaged.signal.aborted) return;
    try {
      await this.directory.markClean(this.name);
    } catch (error) {
      // The present mark says as much as after a crash, which is enough: the state is only a view.
      if (!isShortage(error)) throw error;
    }
  }

  /** Ends all work under way and closes the files. */
  async #letGo(): Promise<void> {
    this.#stop.abort(stopped());
    clearTimeout(this.#opening);
    for (const range of [...this.#ranges]) range.fail(stopped());
    await this.#worker.stop(stopped());
    await this.#restoring;
    await this.environment.close();
    await Promise.all(this.#removals);
    await this.directory.settled();
  }

  async #restore(payload: AsyncIterable<Uint8Array>, at: LogPosition): Promise<void> {
    const name = this.directory.reserve();
    let environment: LmdbEnvironment | undefined;
    try {
      const path = this.directory.pathOf(name);
      await prepareNew(this.fs, path);
      this.#stop.signal.throwIfAborted();
      await this.#worker.restore({ path, at, sessionLimits: this.sessionLimits }, payload, this.#stop.signal);
      environment = await LmdbEnvironment.open(this.fs, path);
      this.#stop.signal.throwIfAborted();
      await this.directory.pointTo(name);
    } catch (error) {
      await environment?.close();
      await this.#remove(name);
      throw error;
    }
    this.#switchTo(name, environment, at);
  }

  #switchTo(name: string, environment: LmdbEnvironment, at: LogPosition): void {
    const old = { name: this.name, environment: this.environment };
    this.name = name;
    this.environment = environment;
    this.#applied = at;
    this.#sessions = undefined;
    this.#kept.clear();
    this.#awaitOpened();
    const removal = this.#removeWhenIdle(old.name, old.environment);
    this.#removals.add(removal);
    void removal.then(() => this.#removals.delete(removal));
  }

  async #removeWhenIdle(name: string, environment: LmdbEnvironment): Promise<void> {
    await environment.idle();
    await environment.close();
    await this.#remove(name);
  }

  async #remove(name: string): Promise<void> {
    try {
      if (!this.#crashed) await this.directory.remove(name);
    } catch {
      // The next opening of the state removes the rest.
    }
  }

  #table(): SessionTable {
    if (this.#sessions === undefined) {
      const { sessions } = this.environment;
      this.#sessions = this.#noticing(() =>
        this.environment.read((transaction) => {
          return new SessionTable(sessions, this.sessionLimits, sessions.stored(transaction));
        }),
      );
    }
    return this.#sessions;
  }

  /** Runs a read or a change of the view in force, and notes its failure. */
  #noticing<Result>(action: () => Result): Result {
    try {
      return action();
    } catch (error) {
      this.#notice(error, this.name);
      throw error;
    }
  }

  /**
   * Handles a failure on a view: remembers the damage, if it is damage and the view is still in
   * force.
   */
  #notice(error: unknown, name: string): void {
    if (!isDamage(error) || name !== this.name || this.#damaged.signal.aborted) return;
    void this.directory.distrust(name, CairnError.from(error).text);
    this.#damaged.abort(error);
  }

  /**
   * Starts the timer of this opening. The first reads may still end the process at a damaged page.
   */
  #awaitOpened(): void {
    clearTimeout(this.#opening);
    const { name } = this;
    this.#opening = setTimeout(() => void this.directory.endOpening(name), this.openingMs);
    this.#opening.unref();
  }

  #ended(range: KeyRange, snapshot: LmdbSnapshot): void {
    this.#ranges.delete(range);
    snapshot.close();
  }

  #assertRunning(): void {
    if (this.#stop.signal.aborted) throw stopped();
    this.#damaged.signal.throwIfAborted();
  }
}

const NO_BYTES = new Uint8Array(0);

/** Yields the first `limit` entries, each with a value that the caller may keep. */
function* copies(
  limit: number,
  entries: Iterable<KeyEntry>,
  onError: (error: unknown) => void,
): Generator<KeyEntry, undefined, undefined> {
  let left = limit;
  if (left <= 0) return;
  try {
    for (const entry of entries) {
      yield copyOf(entry);
      left--;
      if (left <= 0) return;
    }
  } catch (error) {
    onError(error);
    throw error;
  }
}

/**
 * Returns whether a failure is about the state itself, and not about room, too many readers or an
 * end.
 */
function isDamage(error: unknown): boolean {
  return !(error instanceof CairnError) || error.code === "CORRUPT" || error.code === "STORAGE_FAILED";
}

function stopped(): CairnError {
  return new CairnError("STOPPED", "the state machine is closed");
}
