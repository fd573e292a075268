// A state machine with its state on a disk, and a log beside it, as a node has them.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { LmdbMachine } from "../../../dist/src/machine/lmdb_machine.js";
import { StoreMachine } from "../../../dist/src/machine/store_machine.js";
import { INITIAL_HARD_STATE, LOG_START } from "../../../dist/src/raft/types.js";
import { WriteAheadLog } from "../../../dist/src/storage/wal/wal.js";
import { DEFAULT_RULES } from "../../../dist/src/store/rules/v1.js";
import { workerRunner } from "../../../dist/src/store/steps/worker_runner.js";
import { storeFactory } from "../../../dist/src/store/store.js";
import { nodeFileSystem } from "../../../dist/src/system/fs.js";
import { noteThreads } from "./counters.mjs";

/** Rules for a flush size: tables shrink with it, so that levels have the shape of the default's. */
export function rulesFor(flushBytes) {
  const share = flushBytes / DEFAULT_RULES.flushBytes;
  const tableBytesMin = Math.floor(DEFAULT_RULES.tableBytesMin * Math.min(1, share));
  const tableBytesMax = Math.floor(DEFAULT_RULES.tableBytesMax * Math.min(1, share));
  const seeds = [randomBytes(4).readUInt32LE(0), randomBytes(4).readUInt32LE(0)];
  return { ...DEFAULT_RULES, flushBytes, tableBytesMin, tableBytesMax, seeds };
}

export class Subject {
  #log;
  /** Bytes written to the log. */
  logBytes = 0;
  /** Microseconds of each entry in the batches applied so far, a figure a batch: without waits. */
  batchMicros = [];
  /** Index of the last entry. */
  last = 0;

  constructor({ system, directory, flushBytes }) {
    this.system = system;
    this.directory = directory;
    this.flushBytes = flushBytes;
    this.stateDirectory = join(directory, "state");
    const factory = storeFactory({ fs: nodeFileSystem, rules: rulesFor(flushBytes), runner: workerRunner });
    this.stores = {
      build: factory.build,
      open: async (path) => {
        this.engine = await factory.open(path);
        return this.engine;
      },
    };
  }

  /** Opens the state; with a log, a new one the first time. */
  async open() {
    const options = { directory: this.stateDirectory };
    this.machine =
      this.system === "lmdb"
        ? await LmdbMachine.open(options)
        : await StoreMachine.open({ ...options, stores: this.stores });
    this.last = Math.max(this.last, this.machine.appliedIndex);
    if (this.#log === undefined) noteThreads();
    this.#log ??= await WriteAheadLog.create(this.#logOptions(), LOG_START, INITIAL_HARD_STATE);
  }

  /** Applies batches as a node does. `logged`: writes them to the log, durably, before. */
  async apply(batches, { logged = false } = {}) {
    const { machine } = this;
    for (const entries of batches) {
      if (logged) await this.append(entries);
      const start = performance.now();
      const preparing = machine.prepare?.(entries);
      const prepared = performance.now();
      if (preparing !== undefined) await preparing;
      const ready = performance.now();
      machine.apply(entries);
      const ms = performance.now() - ready + (prepared - start);
      this.batchMicros.push((1000 * ms) / entries.length);
      this.last = entries.at(-1).index;
      // A node's loop has other events between batches, those of the state's worker among them.
      await setImmediate();
    }
    if (logged) await this.#trim();
  }

  append(entries) {
    return this.#log.append({ entries, sync: true });
  }

  /** Skips the log over entries that were applied without it. */
  async skipLog() {
    await this.#log.reset({ index: this.last, term: 1 });
  }

  /** Waits until the steps under way have ended. */
  async settle() {
    await this.engine?.settled(0);
  }

  /** Ends as a crash does, starts again, and replays what the state lacks. Returns milliseconds of each part. */
  async restart() {
    const { last } = this;
    await this.machine.crash();
    await this.#log.crash();
    const start = performance.now();
    const opened = await WriteAheadLog.open(this.#logOptions());
    this.#log = opened.log;
    const logOpened = performance.now();
    await this.open();
    const stateOpened = performance.now();
    const replayed = last - this.machine.appliedIndex;
    for (let low = this.machine.appliedIndex + 1; low <= last; low = this.machine.appliedIndex + 1) {
      await this.apply([await this.#log.entries(low, last, 1 << 20)]);
    }
    const end = performance.now();
    return { logMs: logOpened - start, openMs: stateOpened - logOpened, replayMs: end - stateOpened, replayed };
  }

  /** Closes the log and leaves the state as a crash does: the directory is removed. */
  async end() {
    await this.machine.crash();
    await this.#log.crash();
  }

  /** Drops what the store has written; behind LMDB, whose state is whole, it keeps as much as a store does. */
  async #trim() {
    const kept = Math.ceil((1.5 * this.flushBytes) / this.entryBytes);
    const through = this.engine?.flushed.index ?? this.last - kept;
    if (through > 0) await this.#log.trim(through);
    this.machine.logTrimmed?.(through);
  }

  #logOptions() {
    const open = async (path, mode) => {
      const file = await nodeFileSystem.open(path, mode);
      const write = file.write.bind(file);
      file.write = (parts, position) => {
        for (const { byteLength } of parts) this.logBytes += byteLength;
        return write(parts, position);
      };
      return file;
    };
    return { fs: { ...nodeFileSystem, open }, directory: join(this.directory, "log") };
  }
}
