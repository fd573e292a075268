import { statfsSync } from "node:fs";
import { open, type RootDatabase, type Transaction } from "lmdb";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { LogPosition } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import { damagedState, type RowKind, rowKind, StateDigest, Tally } from "./checksums.js";
import { LmdbRoom } from "./disk_space.js";
import { LMDB_READERS, prepareExisting, prepareNew } from "./files.js";
import { decodeMark, encodeMark, MARK_KEY, type StateMark } from "./mark.js";
import { LmdbRecords } from "./records.js";
import { LmdbSessions } from "./sessions.js";
import { type LmdbTable, SealedTable, TABLE_ENCODING } from "./table.js";

/**
 * One LMDB environment with a key-value state: tables for keys, sessions, answers, and the applied
 * position with the digest of them all. Every row has a checksum. Commits are not synced; see
 * LmdbDirectory for when the files can be trusted. It counts its readers, and lives on until the
 * last one is gone.
 */
export class LmdbEnvironment {
  readonly records: LmdbRecords;
  readonly sessions: LmdbSessions;
  readonly #root: RootDatabase<Buffer, Uint8Array>;
  readonly #meta: SealedTable;
  readonly #keys: SealedTable;
  readonly #heads: SealedTable;
  readonly #tables: { getStats(): unknown }[] = [];
  readonly #room: LmdbRoom;
  /**
   * Of the rows as the transaction that is under way has them, or as the last one has left them.
   */
  readonly #digest = new StateDigest();
  #readers = 0;
  #whenIdle: (() => void) | undefined;

  /** Makes a new environment in a directory that is not there yet. Throws CairnError DISK_FULL. */
  static async create(fs: FileSystem, path: string): Promise<LmdbEnvironment> {
    await prepareNew(fs, path);
    return new LmdbEnvironment(path);
  }

  /**
   * Opens the environment in a directory. Throws CairnError CORRUPT when it is none, or DISK_FULL.
   */
  static async open(fs: FileSystem, path: string): Promise<LmdbEnvironment> {
    await prepareExisting(fs, path);
    return new LmdbEnvironment(path);
  }

  /** Opens an environment whose files {@link prepareNew} has made. Throws CairnError DISK_FULL. */
  static openPrepared(path: string): LmdbEnvironment {
    return new LmdbEnvironment(path);
  }

  /**
   * Opens, for reading only, the environment that another thread of this process has open
   * meanwhile. Throws CairnError.
   */
  static openShared(path: string): LmdbEnvironment {
    return new LmdbEnvironment(path, true);
  }

  private constructor(
    readonly path: string,
    readOnly = false,
  ) {
    this.#room = new LmdbRoom(path, () => this.#freeBytes());
    // Not "writemap", though its commits are faster: on a full disk it ends the process with SIGBUS
    // instead of an error.
    const options = { ...TABLE_ENCODING, noSubdir: false, noSync: true, maxDbs: 8, maxReaders: LMDB_READERS, readOnly };
    this.#root = this.#guarded(() => open<Buffer, Uint8Array>({ path, ...options }));
    try {
      const { keys, sessions, answers } = this.#digest;
      this.#meta = this.#table("meta", rowKind.meta, new Tally());
      this.#keys = this.#table("keys", rowKind.key, keys);
      this.#heads = this.#table("sessions", rowKind.session, sessions);
      this.records = new LmdbRecords(this.#keys, keys);
      this.sessions = new LmdbSessions(this.#heads, this.#table("answers", rowKind.answer, answers));
      const mark = this.readMark();
      if (mark !== undefined) this.#digest.set(mark.digest);
    } catch (error) {
      void this.#root.close();
      throw error;
    }
  }

  /**
   * Runs `action` as one transaction: all that it wrote is there afterwards, or nothing when it
   * throws. Readers see it at once; nothing is synced. `bytes`: how much it may grow by. Throws
   * CairnError DISK_FULL, BUSY, CORRUPT or STORAGE_FAILED.
   */
  transaction<T>(action: () => T, bytes = 0): T {
    if (bytes > 0) this.#room.check(bytes);
    const before = this.#digest.copy();
    this.#forgetReads();
    try {
      return this.#root.transactionSync(action);
    } catch (error) {
      this.#digest.set(before);
      this.#forgetReads();
      throw this.#fromLmdb(error);
    }
  }

  /**
   * Position of the last entry whose effect is in the state, and the digest of the rows, now or as
   * a transaction sees them; undefined when none was ever written. Throws CairnError CORRUPT.
   */
  readMark(transaction?: Transaction): StateMark | undefined {
    const row = this.#meta.getCopy(MARK_KEY, transaction);
    return row && decodeMark(row);
  }

  /** Sets the applied position; at the end of a transaction, since the digest goes with it. */
  writeApplied(position: LogPosition): void {
    this.#meta.put(MARK_KEY, encodeMark({ ...position, digest: this.#digest }));
  }

  /**
   * The state as it is now, for reading over time. Throws CairnError BUSY when too many are being
   * read.
   */
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

  /**
   * Counts as a reader until the returned function is called, once. Throws CairnError BUSY when
   * there are too many.
   */
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

  #table(name: string, kind: RowKind, tally: Tally): SealedTable {
    const table = this.#guarded(() => this.#root.openDB(name, TABLE_ENCODING) as LmdbTable);
    this.#tables.push(table as unknown as { getStats(): unknown });
    return new SealedTable(table, name, kind, tally, (error) => this.#fromLmdb(error));
  }

  #forgetReads(): void {
    for (const table of [this.#meta, this.#keys, this.#heads]) table.forgetReads();
  }

  /** Pages of the data file that no table uses. A reader may still hold some of them. */
  #freeBytes(): number {
    const { lastPageNumber, pageSize, root, free } = statsOf(this.#tables[0]!);
    const used = [...this.#tables.map(statsOf), root, free].reduce((sum, stats) => sum + pagesOf(stats), META_PAGES);
    return Math.max(0, lastPageNumber + 1 - used) * pageSize;
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
    if (DESCRIPTOR_CODES.has(code)) {
      return new CairnError("BUSY", `too many open files for the state in ${text}: raise the limit (ulimit -n)`, {
        cause: error,
      });
    }
    if (DAMAGE_CODES.has(code)) {
      return damagedState(text);
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

  /**
   * Applied position of this state, and its digest; undefined when none was ever written. Throws
   * CairnError CORRUPT.
   */
  get mark(): StateMark | undefined {
    return this.environment.readMark(this.transaction);
  }

  /**
   * Ends the read transaction; may be called more than once. Whatever iterates over it must have
   * been ended.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.transaction.done();
    this.letGo();
  }
}

/** As LMDB counts the pages of a table. */
interface PageCounts {
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
}

interface TableStats extends PageCounts {
  readonly pageSize: number;
  readonly lastPageNumber: number;
  /** The table of tables, and that of free pages. */
  readonly root: PageCounts;
  readonly free: PageCounts;
}

const META_PAGES = 2;

function statsOf(table: { getStats(): unknown }): TableStats {
  return table.getStats() as TableStats;
}

function pagesOf({ treeBranchPageCount, treeLeafPageCount, overflowPages }: PageCounts): number {
  return treeBranchPageCount + treeLeafPageCount + overflowPages;
}

const EIO = 5;
/** ENOSPC, EDQUOT on Linux and macOS, EFBIG. */
const FULL_CODES: ReadonlySet<number> = new Set([28, 122, 69, 27]);
/** ENFILE, EMFILE. */
const DESCRIPTOR_CODES: ReadonlySet<number> = new Set([23, 24]);
/**
 * MDB_PAGE_NOTFOUND, MDB_CORRUPTED, MDB_VERSION_MISMATCH, MDB_INVALID; and what only a damaged tree
 * can bring about here: MDB_CURSOR_FULL, MDB_PAGE_FULL, MDB_INCOMPATIBLE, MDB_BAD_VALSIZE,
 * MDB_PROBLEM, MDB_BAD_CHECKSUM.
 */
const DAMAGE_CODES: ReadonlySet<number> = new Set([
  -30797, -30796, -30794, -30793, -30787, -30786, -30784, -30781, -30779, -30778,
]);
