import { assert } from "../base/assert.js";
import { CairnError, hasCode } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { LogPosition } from "../raft/types.js";
import { type Clock, systemClock } from "../system/clock.js";
import type { FileSystem } from "../system/fs.js";
import { type Logger, silentLogger } from "../system/logger.js";
import type { Levels } from "./levels/levels.js";
import { type Manifest, manifestName } from "./levels/manifest.js";
import { findStates } from "./levels/open_directory.js";
import { OpenTables } from "./levels/open_tables.js";
import { Removals } from "./levels/removals.js";
import { recordsAbout, supersededBytes, wantsDrain } from "./levels/shape.js";
import { StoreReader } from "./levels/store_reader.js";
import { ArenaPool } from "./memory/arena_pool.js";
import { MemoryTable } from "./memory/memory_table.js";
import type { Existed, LiveRecord, StoreBuilder, StoreEngine, StoreFactory, StoreView, WrittenTable } from "./reads.js";
import type { StoreRules } from "./rules/rules.js";
import { inlineRunner, type MakeRunner } from "./steps/runner.js";
import type { StepOutcome } from "./steps/step.js";
import { type FrozenTable, StepQueue } from "./steps/step_queue.js";
import { BaseBuilder } from "./steps/store_builder.js";
import { TableFiles } from "./tables/files.js";
import { tableName } from "./tables/format.js";
import { PageCache } from "./tables/page_cache.js";
import { Pinned, PinnedView } from "./views.js";

/** Rounds of loading what a batch will read, should steps swap tables in between. */
const PREPARE_ROUNDS = 4;

export interface StoreOptions {
  readonly fs: FileSystem;
  /** Rules of a new store; an existing one has its own. */
  readonly rules: StoreRules;
  /** Default: {@link inlineRunner}. */
  readonly runner?: MakeRunner;
  /** Default: `limits.storeCacheBytes`. */
  readonly cacheBytes?: number;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

/** Returns what opens and builds stores with these options. */
export function storeFactory(options: StoreOptions): StoreFactory {
  return {
    open: (directory) => Store.open(directory, options),
    build: (directory) => Store.build(directory, options),
  };
}

/** The state as a function of the log: see the README of this folder. */
export class Store implements StoreEngine {
  readonly #pool: ArenaPool;
  readonly #removals: Removals;
  readonly #queue: StepQueue;
  readonly #damaged = new AbortController();
  readonly #listeners: ((written: WrittenTable) => void)[] = [];
  #active: Pinned<MemoryTable>;
  /** Newest first. */
  #frozen: Pinned<MemoryTable>[] = [];
  #levels: Levels;
  #previous: Levels | undefined;
  #reader: StoreReader;
  #isClosed = false;

  private constructor(
    directory: string,
    { fs, runner = inlineRunner, clock = systemClock, logger = silentLogger }: StoreOptions,
    private readonly files: TableFiles,
    private readonly tables: OpenTables,
    newest: Levels,
    previous: Levels | undefined,
  ) {
    this.#levels = newest;
    this.#previous = previous;
    this.#pool = new ArenaPool(this.flushBytes);
    this.#removals = new Removals(fs, directory);
    const owner = this;
    this.#queue = new StepQueue(
      {
        get manifest() {
          return owner.#levels.manifest;
        },
        get findsCreated() {
          return owner.#listeners.length > 0;
        },
        publish: (frozen, result) => this.#publish(frozen, result),
        fail: (error) => this.#fail(error),
      },
      runner(fs, directory),
      clock,
      logger,
    );
    this.#active = this.#newTable();
    this.#reader = this.#newReader();
  }

  /**
   * Opens the store in a directory, which it makes if need be, and removes what nothing names.
   * @throws CairnError CORRUPT when there is a manifest, but none that can be used
   */
  static async open(directory: string, options: StoreOptions): Promise<Store> {
    const { fs, rules, cacheBytes = limits.storeCacheBytes, logger = silentLogger } = options;
    await fs.makeDirectory(directory);
    const files = new TableFiles(fs, directory);
    const cache = new PageCache(cacheBytes, rules.pageBytes);
    let store: Store | undefined;
    const tables = new OpenTables(files, cache, (table) => {
      if (store !== undefined) store.#removals.add(tableName(table));
    });
    try {
      const { newest, previous, unnamed, damage } = await findStates(fs, directory, rules, tables);
      for (const error of damage)
        logger.error({ err: error }, "a manifest of the state cannot be used: the one before is");
      // The process before may have died between the renaming of the newest manifest and this.
      await fs.syncDirectory(directory);
      for (const name of unnamed) await fs.unlink(`${directory}/${name}`);
      store = new Store(directory, options, files, tables, newest, previous);
      return store;
    } catch (error) {
      tables.close();
      await files.close();
      throw error;
    }
  }

  /** Begins a new store in a directory, which must not exist. */
  static build(directory: string, { fs, rules }: StoreOptions): Promise<StoreBuilder> {
    return BaseBuilder.create(fs, directory, rules);
  }

  // State

  /** The newest manifest. */
  get manifest(): Manifest {
    return this.#levels.manifest;
  }

  get flushed(): LogPosition {
    return this.manifest.position;
  }

  get note(): Uint8Array {
    return this.manifest.note;
  }

  get flushBytes(): number {
    return this.manifest.rules.flushBytes;
  }

  get charge(): number {
    return this.#active.held.charge;
  }

  get isDue(): boolean {
    return this.charge >= this.flushBytes;
  }

  get frozen(): number {
    return this.#queue.length;
  }

  get wantsDrain(): boolean {
    return wantsDrain(this.manifest, this.#active.held);
  }

  get wantsFlush(): boolean {
    return this.#previous !== undefined && supersededBytes(this.#previous.manifest, this.manifest) > this.flushBytes;
  }

  get recordsAbout(): number {
    const memory = [this.#active, ...this.#frozen].reduce((sum, { held }) => sum + held.count, 0);
    return memory + recordsAbout(this.manifest);
  }

  get damaged(): AbortSignal {
    return this.#damaged.signal;
  }

  // Reads

  get(key: Uint8Array): LiveRecord | undefined {
    return this.#reader.get(key);
  }

  range(start: Uint8Array, end: Uint8Array | undefined): Iterable<LiveRecord> {
    return this.#reader.range(start, end);
  }

  existedBefore(key: Uint8Array, version: number): boolean | undefined {
    if (version <= this.flushed.index) return undefined;
    return this.#newReader(version - 1).get(key) !== undefined;
  }

  // Writes

  put(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void {
    this.#active.held.put(key, value, version, created, tag);
  }

  putBlind(key: Uint8Array, value: Uint8Array, version: number, tag: number): Existed {
    const existed = this.#active.held.putBlind(key, value, version, tag);
    if (existed !== "unknown") return existed;
    // Not looked up in frozen tables: that would double the price, and the step finds it out.
    return this.#frozen.length === 0 && this.#levels.runs.length === 0 ? "no" : "unknown";
  }

  putOnly(key: Uint8Array, value: Uint8Array, version: number, created: number, tag: number): void {
    this.#active.held.putOnly(key, value, version, created, tag);
  }

  delete(key: Uint8Array, version: number): void {
    this.#active.held.delete(key, version);
  }

  raiseFloor(firstByte: number, version: number): void {
    this.#active.held.raiseFloor(firstByte, version);
    this.#reader = this.#newReader();
  }

  mark(): number {
    return this.#active.held.mark();
  }

  rollback(mark: number): void {
    this.#active.held.rollback(mark);
    this.#reader = this.#newReader();
  }

  // Flush points

  freeze(position: LogPosition, note: Uint8Array, drain: boolean): void {
    assert(position.index > this.#lastFlushPoint, "flush points ascend", { index: position.index });
    const frozen = this.#active;
    this.#frozen = [frozen, ...this.#frozen];
    this.#active = this.#newTable();
    this.#reader = this.#newReader();
    this.#queue.add({ memory: frozen.held, position, note: note.slice(), drain });
  }

  onWritten(listener: (written: WrittenTable) => void): void {
    this.#listeners.push(listener);
  }

  settled(most: number): Promise<void> | undefined {
    return this.#queue.settled(most) ?? (most > 0 ? this.#queue.pause(this.charge / this.flushBytes) : undefined);
  }

  prepare(keys: readonly Uint8Array[]): Promise<void> | undefined {
    const loading = this.#loading(keys);
    return loading && this.#prepare(keys, loading);
  }

  prepareRange(start: Uint8Array, end: Uint8Array | undefined): Promise<void> | undefined {
    const levels = this.#levels;
    if (levels.runs.length === 0) return undefined;
    levels.retain();
    return this.#reader
      .loadRange(start, end, limits.storePrepareBytes)
      .catch((error) => {
        throw this.#noted(error);
      })
      .finally(() => levels.release());
  }

  capture(position: LogPosition): StoreView {
    const memory = [this.#active, ...this.#frozen];
    const levels = this.#levels;
    const reader = this.#newReader(position.index);
    return new PinnedView(position, reader, [levels, ...memory]);
  }

  // The end

  close(): Promise<void> {
    return this.#end(false);
  }

  crash(): Promise<void> {
    return this.#end(true);
  }

  /** Waits until the files that nothing names any longer are removed. */
  async removed(): Promise<void> {
    await this.#removals.settled();
  }

  async #end(isCrash: boolean): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#queue.close(isCrash);
    await this.#removals.stop(isCrash);
    this.tables.close();
    await this.files.close();
  }

  get #lastFlushPoint(): number {
    return this.#queue.frozen[0]?.position.index ?? this.flushed.index;
  }

  #newTable(): Pinned<MemoryTable> {
    return new Pinned(new MemoryTable(this.#pool), (table) => table.release());
  }

  #newReader(atVersion?: number): StoreReader {
    const memory = [this.#active.held, ...this.#frozen.map(({ held }) => held)];
    return new StoreReader(memory, this.#levels, (error) => this.#noted(error), atVersion);
  }

  /** Puts a step's manifest in force. */
  async #publish(frozen: FrozenTable, { manifest, created }: StepOutcome): Promise<void> {
    const levels = await this.tables.open(manifest);
    if (this.#isClosed) return levels.release();
    const before = this.#previous;
    this.#previous = this.#levels;
    this.#levels = levels;
    const written = this.#frozen.pop()!;
    this.#reader = this.#newReader();
    written.release();
    // First the manifest, then what it alone names.
    if (before !== undefined && before.manifest.position.index > 0) {
      this.#removals.add(manifestName(before.manifest.position));
    }
    before?.release();
    try {
      for (const listener of this.#listeners) listener({ position: frozen.position, created });
    } catch (error) {
      // The manifest is in force: this step must not be repeated.
      this.#fail(CairnError.from(error));
    }
  }

  #loading(keys: readonly Uint8Array[]): Promise<void> | undefined {
    if (this.#levels.runs.length === 0) return undefined;
    const loading: Promise<void>[] = [];
    for (const key of keys) {
      const reading = this.#reader.load(key);
      if (reading !== undefined) loading.push(reading);
    }
    return loading.length === 0 ? undefined : Promise.all(loading).then(() => {});
  }

  async #prepare(keys: readonly Uint8Array[], first: Promise<void>): Promise<void> {
    let loading: Promise<void> | undefined = first;
    for (let round = 1; loading !== undefined; round++) {
      const levels = this.#levels;
      levels.retain();
      try {
        await loading;
      } catch (error) {
        throw this.#noted(error);
      } finally {
        levels.release();
      }
      // A load that is begun is waited for: its tables are retained no longer than that.
      loading = round < PREPARE_ROUNDS ? this.#loading(keys) : undefined;
    }
  }

  /** Notes damage that a read has met. Returns the error. */
  #noted(error: unknown): unknown {
    if (hasCode(error, "CORRUPT")) this.#fail(error);
    return error;
  }

  #fail(error: Error): void {
    if (!this.#damaged.signal.aborted && !this.#isClosed) this.#damaged.abort(CairnError.from(error));
  }
}
