import { statfsSync } from "node:fs";
import { type Database, open, type RootDatabase, type Transaction } from "lmdb";
import { limits } from "../core/limits.js";
import type { LogPosition } from "../core/types.js";
import { CairnError } from "../errors.js";
import type { FileSystem } from "../storage/fs.js";
import { LMDB_READERS, prepareExisting, prepareNew } from "./lmdb_files.js";
import { LmdbRecords, RECORDS_ENCODING } from "./lmdb_records.js";
import { LmdbSessions } from "./lmdb_sessions.js";

export type LmdbTable = Database<Buffer, Uint8Array>;

const BINARY = { encoding: "binary", keyEncoding: "binary" } as const;

/** Where the applied position stands in the table "meta": a format byte, then index and term as doubles. */
const APPLIED_KEY = Buffer.from("applied");
const APPLIED_FORMAT = 2;
/** 1 says the same. A program that knows only 1 does not know the rules of the sessions, so it must not take the state for its own. */
const APPLIED_FORMATS: ReadonlySet<number | undefined> = new Set([1, APPLIED_FORMAT]);
const APPLIED_BYTES = 17;

/**
 * One LMDB environment with a key-value state: tables for keys, sessions, answers, and the applied position. Commits are not synced;
 * see LmdbDirectory for when the files can be trusted. It counts its readers, and lives on until the last one is gone.
 */
export class LmdbEnvironment {
  readonly records: LmdbRecords;
  readonly sessions: LmdbSessions;
  readonly #root: RootDatabase<Buffer, Uint8Array>;
  readonly #meta: LmdbTable;
  #readers = 0;
  #whenIdle: (() => void) | undefined;

  /** Makes a new environment in a directory that is not there yet. Throws CairnError DISK_FULL. */
  static async create(fs: FileSystem, path: string): Promise<LmdbEnvironment> {
    await prepareNew(fs, path);
    return new LmdbEnvironment(path);
  }

  /** Opens the environment in a directory. Throws CairnError CORRUPT when it is none, or DISK_FULL. */
  static async open(fs: FileSystem, path: string): Promise<LmdbEnvironment> {
    await prepareExisting(fs, path);
    return new LmdbEnvironment(path);
  }

  /** Opens an environment whose files {@link prepareNew} has made. Throws CairnError DISK_FULL. */
  static openPrepared(path: string): LmdbEnvironment {
    return new LmdbEnvironment(path);
  }

  /** Opens, for reading only, the environment that another thread of this process has open meanwhile. Throws CairnError. */
  static openShared(path: string): LmdbEnvironment {
    return new LmdbEnvironment(path, true);
  }

  private constructor(
    readonly path: string,
    readOnly = false,
  ) {
    // Not "writemap", though its commits are faster: on a full disk it ends the process with SIGBUS instead of an error.
    const options = { ...BINARY, noSubdir: false, noSync: true, maxDbs: 8, maxReaders: LMDB_READERS, readOnly };
    this.#root = this.#guarded(() => open<Buffer, Uint8Array>({ path, ...options }));
    try {
      const table = (name: string) => this.#guarded(() => this.#root.openDB(name, BINARY));
      this.#meta = table("meta");
      this.records = new LmdbRecords(this.#guarded(() => this.#root.openDB("keys", RECORDS_ENCODING)));
      this.sessions = new LmdbSessions(table("sessions"), table("answers"), this.#meta);
    } catch (error) {
      void this.#root.close();
      throw error;
    }
  }

  /**
   * Runs `action` as one transaction: all that it wrote is there afterwards, or nothing when it throws. Readers see it at once;
   * nothing is synced. Throws CairnError DISK_FULL, CORRUPT or STORAGE_FAILED.
   */
  transaction<T>(action: () => T): T {
    return this.#guarded(() => this.#root.transactionSync(action));
  }

  /** Position of the last entry whose effect is in the state, now or as a transaction sees it; undefined when none was ever written. */
  readApplied(transaction?: Transaction): LogPosition | undefined {
    const options = transaction && { transaction };
    const bytes = this.#guarded(() => this.#meta.get(APPLIED_KEY, options));
    if (bytes?.byteLength !== APPLIED_BYTES || !APPLIED_FORMATS.has(bytes[0])) return undefined;
    return { index: bytes.readDoubleLE(1), term: bytes.readDoubleLE(9) };
  }

  /** Sets the applied position; within a transaction. */
  writeApplied({ index, term }: LogPosition): void {
    const bytes = Buffer.allocUnsafe(APPLIED_BYTES);
    bytes[0] = APPLIED_FORMAT;
    bytes.writeDoubleLE(index, 1);
    bytes.writeDoubleLE(term, 9);
    this.#meta.putSync(APPLIED_KEY, bytes);
  }

  /** The state as it is now, for reading over time. Throws CairnError BUSY when too many are being read. */
  snapshot(): LmdbSnapshot {
    const letGo = this.retain();
    try {
      return new LmdbSnapshot(
        this,
        this.#guarded(() => this.#root.useReadTransaction()),
        letGo,
      );
    } catch (error) {
      letGo();
      throw error;
    }
  }

  /** Counts as a reader until the returned function is called, once. Throws CairnError BUSY when there are too many. */
  retain(): () => void {
    if (this.#readers >= limits.stateReaders) {
      const limit = `the limit stateReaders is ${limits.stateReaders}`;
      throw new CairnError("BUSY", `too many ranges and snapshots of the state are being read; ${limit}: try later`);
    }
    this.#readers++;
    return () => this.#letGo();
  }

  /** Reads the state as it is now, at once; not a reader that is counted. */
  read<T>(action: (transaction: Transaction) => T): T {
    const transaction = this.#guarded(() => this.#root.useReadTransaction());
    try {
      return action(transaction);
    } finally {
      transaction.done();
    }
  }

  /** Resolves when nobody reads any more. Call it once, when no new reader can come. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#readers === 0) resolve();
      else this.#whenIdle = resolve;
    });
  }

  /** Lets go of the files without syncing them. Nobody may be reading. */
  close(): Promise<void> {
    return this.#root.close();
  }

  #letGo(): void {
    this.#readers--;
    if (this.#readers === 0) this.#whenIdle?.();
  }

  #guarded<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw this.#fromLmdb(error);
    }
  }

  #fromLmdb(error: unknown): unknown {
    const code = (error as { code?: unknown } | null)?.code;
    if (typeof code !== "number") return error;
    const text = `${this.path}: ${String((error as Error).message)}`;
    if (FULL_CODES.has(code) || (code === EIO && this.#isFull())) {
      return new CairnError("DISK_FULL", `no space left for the state in ${text}: make room`, { cause: error });
    }
    if (DAMAGE_CODES.has(code)) {
      return new CairnError("CORRUPT", `the state is damaged in ${text}: have it rebuilt`, { cause: error });
    }
    return new CairnError("STORAGE_FAILED", `the state failed in ${text}`, { cause: error });
  }

  /** LMDB reports a write that the disk took only in part as an input/output error. */
  #isFull(): boolean {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize < limits.entryBytes * 2;
  }
}

/** An environment's state at one transaction, until it is closed. */
export class LmdbSnapshot {
  #closed = false;

  constructor(
    private readonly environment: LmdbEnvironment,
    readonly transaction: Transaction,
    private readonly letGo: () => void,
  ) {}

  get records(): LmdbRecords {
    return this.environment.records;
  }

  get sessions(): LmdbSessions {
    return this.environment.sessions;
  }

  /** Ends the read transaction; may be called more than once. Whatever iterates over it must have been ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.transaction.done();
    this.letGo();
  }
}

const EIO = 5;
/** ENOSPC, EDQUOT on Linux and macOS, EFBIG. */
const FULL_CODES: ReadonlySet<number> = new Set([28, 122, 69, 27]);
/** MDB_PAGE_NOTFOUND, MDB_CORRUPTED, MDB_VERSION_MISMATCH, MDB_INVALID. */
const DAMAGE_CODES: ReadonlySet<number> = new Set([-30797, -30796, -30794, -30793]);
