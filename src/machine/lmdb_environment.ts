import { existsSync, statfsSync, statSync } from "node:fs";
import { type Database, open, type RootDatabase, type Transaction } from "lmdb";
import { limits } from "../core/limits.js";
import type { LogPosition } from "../core/types.js";
import { CairnError } from "../errors.js";
import { LmdbRecords } from "./lmdb_records.js";
import { LmdbSessions } from "./lmdb_sessions.js";

export type LmdbTable = Database<Buffer, Uint8Array>;

/** File of an environment that holds everything; the other one, lock.mdb, is of no use after the last process has let go. */
export const DATA_FILE = "data.mdb";

const BINARY = { encoding: "binary", keyEncoding: "binary" } as const;

/** Where the applied position stands in the table "meta": a format byte, then index and term as doubles. */
const APPLIED_KEY = Buffer.from("applied");
const APPLIED_FORMAT = 1;
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

  /**
   * Opens the environment in a directory, or makes it. Throws what LMDB throws, or CairnError CORRUPT when the data file is shorter
   * than it says: reading past its end would kill the process.
   */
  constructor(readonly path: string) {
    // Not "writemap", though its commits are faster: on a full disk it ends the process with SIGBUS instead of an error.
    this.#root = open<Buffer, Uint8Array>({
      path,
      ...BINARY,
      noSubdir: false,
      noSync: true,
      maxDbs: 8,
      maxReaders: limits.stateReaders,
    });
    try {
      this.#checkLength();
      this.#meta = this.#root.openDB("meta", BINARY);
      this.records = new LmdbRecords(this.#root.openDB("keys", BINARY));
      this.sessions = new LmdbSessions(this.#root.openDB("sessions", BINARY), this.#root.openDB("answers", BINARY));
    } catch (error) {
      void this.#root.close();
      throw error;
    }
  }

  /**
   * Runs `action` as one transaction: all that it wrote is there afterwards, or nothing when it throws. Readers see it at once;
   * nothing is synced. Throws CairnError DISK_FULL or STORAGE_FAILED.
   */
  transaction<T>(action: () => T): T {
    try {
      return this.#root.transactionSync(action);
    } catch (error) {
      throw this.#fromLmdb(error);
    }
  }

  /** Position of the last entry whose effect is in the state; undefined when none was ever written. */
  readApplied(): LogPosition | undefined {
    const bytes = this.#meta.getBinary(APPLIED_KEY);
    if (bytes?.byteLength !== APPLIED_BYTES || bytes[0] !== APPLIED_FORMAT) return undefined;
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
    let transaction: Transaction;
    try {
      transaction = this.#root.useReadTransaction();
    } catch (error) {
      throw this.#fromLmdb(error);
    }
    this.#readers++;
    return new LmdbSnapshot(this, transaction, () => this.#letGo());
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

  #checkLength(): void {
    const file = `${this.path}/${DATA_FILE}`;
    const { lastPageNumber, pageSize } = this.#root.getStats() as { lastPageNumber: number; pageSize: number };
    const needed = (lastPageNumber + 1) * pageSize;
    const actual = existsSync(file) ? statSync(file).size : 0;
    // A new environment has its two meta pages in the file only once something was committed.
    if (lastPageNumber > 1 && actual < needed) {
      throw new CairnError("CORRUPT", `${file} has ${actual} bytes, but says that it uses ${needed}`);
    }
  }

  #fromLmdb(error: unknown): unknown {
    const code = (error as { code?: unknown } | null)?.code;
    if (typeof code !== "number") return error;
    const text = `${this.path}: ${String((error as Error).message)}`;
    if (FULL_CODES.has(code) || (code === EIO && this.#isFull())) {
      return new CairnError("DISK_FULL", `no space left for the state in ${text}: make room`, { cause: error });
    }
    if (code === MDB_READERS_FULL) {
      const limit = `the limit stateReaders is ${limits.stateReaders}`;
      return new CairnError("BUSY", `too many ranges and snapshots are being read; ${limit}`, { cause: error });
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
const MDB_READERS_FULL = -30790;
