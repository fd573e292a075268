import type { Command, CommandResult } from "../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../base/errors.js";
import type { Entry, LogPosition, SnapshotMeta } from "../raft/types.js";
import type { StoreFactory } from "../store/reads.js";
import { type FileSystem, nodeFileSystem } from "../system/fs.js";
import { applyEntry, assertFollow, commandsOf } from "./kv/apply.js";
import { EffectNotes } from "./kv/effects/effect_notes.js";
import { KeyRange, type KeyRangeOptions, type KeyValueMachine, type StoreUpkeep } from "./kv/key_value_machine.js";
import type { StoredLease } from "./kv/leases/lease_store.js";
import { unlessAborted } from "./kv/payload_blocks.js";
import { PayloadView } from "./kv/payload_view.js";
import { copyOf, type KeyRecord } from "./kv/record_store.js";
import { DEFAULT_SESSION_LIMITS, NEWEST_RULES, type SessionLimits } from "./kv/session_limits.js";
import type { ApplyResult } from "./state_machine.js";
import { BatchReads } from "./store/batch_reads.js";
import { type CurrentStore, StoreDirectory } from "./store/directory.js";
import { entriesOf } from "./store/key_range.js";
import { ViewSource } from "./store/payload_source.js";
import { fillStore } from "./store/restoring.js";
import { StoreHistory } from "./store/store_history.js";
import { StoreState } from "./store/store_state.js";

// The key-value state machine of a running node, with its state in Cairn's own store.

export interface StoreMachineOptions {
  /** Directory of the state, made when it is missing. Only one machine may have it open. */
  readonly directory: string;
  readonly stores: StoreFactory;
  readonly fs?: FileSystem | undefined;
  /** "auto" reuses the state on disk; "rebuild" throws it away. */
  readonly trust?: "auto" | "rebuild" | undefined;
  readonly sessionLimits?: SessionLimits | undefined;
}

/** Frozen tables that {@link StoreMachine.prepare} leaves to the steps under way. */
const FROZEN_MOST = 1;

/**
 * The key-value machine on the store. Its files are a function of the log. It reopens with the
 * state of its newest flush point, from which the node replays the log.
 */
export class StoreMachine implements KeyValueMachine {
  #state: StoreState;
  #applied: LogPosition;
  readonly #notes = new EffectNotes();
  readonly history: StoreHistory;
  /** Commands that {@link prepare} has decoded, for the {@link apply} that follows. */
  #decoded: { readonly entries: readonly Entry[]; readonly commands: readonly (Command | undefined)[] } | undefined;
  #restoring: Promise<void> | undefined;
  /** Ranges and views that have not ended yet. */
  readonly #readers = new Set<{ fail(failure: Error): void }>();
  readonly #removals = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #damaged = new AbortController();
  #closed: Promise<void> | undefined;

  private constructor(
    private readonly stores: StoreFactory,
    private readonly sessionLimits: SessionLimits,
    private readonly directory: StoreDirectory,
    state: StoreState,
    readonly rebuildReason: string | undefined,
  ) {
    this.#state = state;
    this.#applied = state.engine.flushed;
    this.history = new StoreHistory(state.engine, (read) => this.#noticing(read));
    this.#watch(state);
  }

  /**
   * Opens the state of the newest flush point, or an empty one when the state on disk cannot be
   * used. @throws CairnError DISK_FULL, STORAGE_FAILED
   */
  static async open(options: StoreMachineOptions): Promise<StoreMachine> {
    const { directory: path, stores, fs = nodeFileSystem, trust = "auto" } = options;
    const { sessionLimits = DEFAULT_SESSION_LIMITS } = options;
    const directory = await StoreDirectory.open(fs, path);
    const current: CurrentStore =
      trust === "rebuild" ? { name: undefined, reason: "the caller wants it rebuilt" } : await directory.current();
    const opened = await openCurrent(current, directory, stores, sessionLimits);
    const state = opened.state ?? (await newState(directory, stores, sessionLimits));
    await directory.removeOthers(state.name);
    return new StoreMachine(stores, sessionLimits, directory, state, opened.reason);
  }

  get appliedIndex(): number {
    return this.#applied.index;
  }

  /** Whether the state on disk was thrown away when the machine was opened. */
  get rebuilt(): boolean {
    return this.rebuildReason !== undefined;
  }

  get damaged(): AbortSignal {
    return this.#damaged.signal;
  }

  readonly newestRules = NEWEST_RULES;

  get rulesInForce(): number {
    return this.#state.sessions.head.rules;
  }

  /** About: puts do not look at their keys. Exact once all tables of a new state are written. */
  get keyCount(): number {
    this.#assertRunning();
    return this.#state.records.count;
  }

  get sessionCount(): number {
    this.#assertRunning();
    return this.#state.sessions.size;
  }

  get leaseCount(): number {
    this.#assertRunning();
    return this.#state.leases.count;
  }

  /** Implements KeyValueMachine. */
  get upkeep(): StoreUpkeep {
    this.#assertRunning();
    const { engine } = this.#state;
    const drains = engine.wantsDrain;
    return { isWanted: engine.frozen === 0 && (drains || engine.wantsFlush), drains, charge: engine.charge };
  }

  /** Implements StateMachine: waits for the steps of the store, and loads what will be read. */
  prepare(entries: readonly Entry[]): Promise<void> | undefined {
    this.#assertRunning();
    const { engine } = this.#state;
    const commands = commandsOf(entries);
    this.#decoded = { entries, commands };
    const reads = new BatchReads(this.#state, this.history.isKeeping);
    for (const command of commands) if (command !== undefined) reads.add(command);
    const settled = engine.settled(FROZEN_MOST);
    return settled === undefined ? reads.load(engine) : settled.then(() => reads.load(engine));
  }

  apply(entries: readonly Entry[]): readonly ApplyResult<CommandResult>[] {
    this.#assertRunning();
    assertFollow(entries, this.#applied);
    const last = entries.at(-1);
    if (last === undefined) return [];
    const commands = this.#decoded?.entries === entries ? this.#decoded.commands : commandsOf(entries);
    this.#decoded = undefined;
    const notes = this.#notes;
    notes.clear(this.history.isKeeping);
    const results = this.#noticing(() => this.#applyAll(entries, commands));
    this.history.add(last.index, notes);
    this.#applied = { index: last.index, term: last.term };
    return results;
  }

  get(key: Uint8Array): KeyRecord | undefined {
    this.#assertRunning();
    const record = this.#noticing(() => this.#state.records.get(key));
    return record && copyOf(record);
  }

  range(options: KeyRangeOptions = {}): KeyRange {
    this.#assertRunning();
    const state = this.#state;
    const view = state.capture(this.#applied);
    const entries = entriesOf(view, options, (error) => this.#notice(error, state));
    const range = new KeyRange(entries, (ended) => {
      this.#readers.delete(ended);
      state.release(view);
    });
    this.#readers.add(range);
    return range;
  }

  lease(id: number): StoredLease | undefined {
    this.#assertRunning();
    return this.#state.leases.get(id);
  }

  leases(after: number, limit: number): StoredLease[] {
    this.#assertRunning();
    return this.#state.leases.list(after, limit);
  }

  leaseKeys(id: number): Uint8Array[] {
    this.#assertRunning();
    return this.#state.leases.keysOf(id);
  }

  async capture(): Promise<PayloadView> {
    this.#assertRunning();
    const state = this.#state;
    const view = state.capture(this.#applied);
    const source = new ViewSource(view, state.waiting());
    const payload = new PayloadView(this.#applied, source, (ended) => {
      this.#readers.delete(ended);
      state.release(view);
    });
    this.#readers.add(payload);
    return payload;
  }

  /** Implements StateMachine. Needs room for both states. One restore at a time. */
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

  close(): Promise<void> {
    this.#closed ??= this.#letGo("close");
    return this.#closed;
  }

  crash(): Promise<void> {
    // A close that failed has released everything all the same.
    this.#closed = this.#closed?.catch(() => undefined) ?? this.#letGo("crash");
    return this.#closed;
  }

  #applyAll(entries: readonly Entry[], commands: readonly (Command | undefined)[]): ApplyResult<CommandResult>[] {
    const state = this.#state;
    const { records, leases, sessions } = state;
    const noted = { records, leases, notes: this.#notes };
    return entries.map((entry, at) => {
      const { index, term } = entry;
      state.begin(index);
      const result = applyEntry(entry, commands[at], noted, sessions);
      const asked = commands[at]?.operation;
      if (asked?.case === "store") state.freeze({ index, term }, asked.value.drain);
      else if (state.isDue) state.freeze({ index, term }, false);
      return result;
    });
  }

  async #restore(payload: AsyncIterable<Uint8Array>, at: LogPosition): Promise<void> {
    const { stores, sessionLimits } = this;
    const name = this.directory.reserve();
    const path = this.directory.pathOf(name);
    let state: StoreState | undefined;
    try {
      const builder = await stores.build(path);
      try {
        await fillStore(builder, unlessAborted(payload, this.#stop.signal), at, sessionLimits);
      } catch (error) {
        await builder.abandon();
        throw error;
      }
      state = await openState(name, path, stores, sessionLimits);
      this.#stop.signal.throwIfAborted();
      await this.directory.pointTo(name);
    } catch (error) {
      await state?.engine.crash();
      await this.#remove(name);
      throw error;
    }
    this.#switchTo(state, at);
  }

  #switchTo(state: StoreState, at: LogPosition): void {
    const old = this.#state;
    this.#state = state;
    this.#applied = at;
    this.#decoded = undefined;
    this.history.restart(state.engine);
    this.#watch(state);
    const removal = this.#removeWhenIdle(old);
    this.#removals.add(removal);
    void removal.then(() => this.#removals.delete(removal));
  }

  async #removeWhenIdle(old: StoreState): Promise<void> {
    await old.idle();
    await old.engine.crash().catch(() => undefined);
    await this.#remove(old.name);
  }

  async #remove(name: string): Promise<void> {
    try {
      await this.directory.remove(name);
    } catch {
      // The next opening of the state removes the rest.
    }
  }

  async #letGo(end: "close" | "crash"): Promise<void> {
    this.#stop.abort(stopped());
    for (const reader of [...this.#readers]) reader.fail(stopped());
    await this.#restoring;
    await this.#state.engine[end]();
    await Promise.all(this.#removals);
    await this.directory.settled();
  }

  #watch(state: StoreState): void {
    const { engine } = state;
    engine.onWritten((written) => {
      if (state === this.#state) state.records.created(this.history.written(written));
    });
    const notice = () => this.#notice(engine.damaged.reason, state);
    if (engine.damaged.aborted) notice();
    else engine.damaged.addEventListener("abort", notice, { once: true });
  }

  #noticing<Result>(action: () => Result): Result {
    const state = this.#state;
    try {
      return action();
    } catch (error) {
      this.#notice(error, state);
      throw error;
    }
  }

  /**
   * Handles a failure of a state: remembers the damage on disk, if the state is still in force.
   * Whatever an entry that failed has changed is of no use then, either.
   */
  #notice(error: unknown, state: StoreState): void {
    if (state !== this.#state || this.#damaged.signal.aborted || this.#stop.signal.aborted) return;
    void this.directory.distrust(state.name, CairnError.from(error).text);
    this.#damaged.abort(error);
  }

  #assertRunning(): void {
    if (this.#stop.signal.aborted) throw stopped();
    this.#damaged.signal.throwIfAborted();
  }
}

/** Opens the store in force; without one, or when it is damaged, returns the reason. */
async function openCurrent(
  current: CurrentStore,
  directory: StoreDirectory,
  stores: StoreFactory,
  bounds: SessionLimits,
): Promise<{ readonly state?: StoreState; readonly reason?: string }> {
  if (current.name === undefined) return { reason: current.reason };
  try {
    return { state: await openState(current.name, directory.pathOf(current.name), stores, bounds) };
  } catch (error) {
    // Anything but damage may pass soon, and is no reason to throw a good state away.
    if (!(error instanceof CairnError) || error.code !== "CORRUPT") throw error;
    return { reason: error.text };
  }
}

async function newState(directory: StoreDirectory, stores: StoreFactory, bounds: SessionLimits): Promise<StoreState> {
  const name = directory.reserve();
  const state = await openState(name, directory.pathOf(name), stores, bounds);
  try {
    await directory.pointTo(name);
  } catch (error) {
    await state.engine.crash();
    throw error;
  }
  return state;
}

async function openState(name: string, path: string, stores: StoreFactory, bounds: SessionLimits): Promise<StoreState> {
  const engine = await stores.open(path);
  try {
    return new StoreState(name, engine, bounds);
  } catch (error) {
    await engine.crash();
    throw error;
  }
}

function stopped(): CairnError {
  return new CairnError("STOPPED", "the state machine is closed");
}
