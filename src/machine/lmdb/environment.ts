import { statfsSync } from "node:fs";
import { open, type RootDatabase, type Transaction } from "lmdb";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import type { LogPosition } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import { AnswerRows } from "./answer_rows.js";
import { damagedState, type RowKind, rowKind, StateDigest, Tally } from "./checksums.js";
import { DiskSpace } from "./disk_space.js";
import { EffectRows } from "./effects/effect_rows.js";
import { LMDB_READERS, prepareExisting, prepareNew } from "./files.js";
import { LmdbLeases } from "./leases/lmdb_leases.js";
import { decodeMark, encodeMark, MARK_KEY, type StateMark } from "./mark.js";
import { LmdbRecords } from "./records.js";
import { LmdbSessions } from "./sessions.js";
import { type LmdbTable, SealedTable, TABLE_ENCODING } from "./table.js";

/**
 * One LMDB environment with a key-value state: tables for keys, sessions, answers, leases, their
 * keys, the effects of entries, and the applied position with the digest of all rows. Every row has
 * a checksum. Commits are not synced; LmdbDirectory says when the files can be trusted. The
 * environment counts its readers, and stays open until the last one has ended.
 */
export class LmdbEnvironment {
  readonly records: LmdbRecords;
  readonly sessions: LmdbSessions;
  readonly effects: EffectRows;
  readonly leases: LmdbLeases;
  readonly #root: RootDatabase<Buffer, Uint8Array>;
  readonly #meta: SealedTable;
  readonly #keys: SealedTable;
  readonly #heads: SealedTable;
  readonly #leaseRows: SealedTable;
  readonly #tables: { getStats(): unknown }[] = [];
  readonly #diskSpace: DiskSpace;
  /** Digest of the rows in the transaction under way, or after the last one. */
  readonly #digest = new StateDigest();
  #readers = 0;
  #whenIdle: (() => void) | undefined;

  /**
   * Makes a new environment in a directory that does not exist yet. Throws CairnError DISK_FULL.
   */
  static async create(fs: FileSystem, path: string): Promise<LmdbEnvironment> {
    await prepareNew(fs, path);
    return new LmdbEnvironment(path);
  }

  /**
   * Opens the environment in a directory. Throws CairnError CORRUPT for files that are no
   * environment, or DISK_FULL.
   */
  static async open(fs: FileSystem, path: string): Promise<LmdbEnvironment> {
    await prepareExisting(fs, path);
    return new LmdbEnvironment(path);
  }

  /** Opens an environment whose files {@link prepareNew} made. Throws CairnError DISK_FULL. */
  static openPrepared(path: string): LmdbEnvironment {
    return new LmdbEnvironment(path);
  }

  /**
   * Opens for reading the environment that another thread of this process has open. Throws
   * CairnError.
   */
  static openShared(path: string): LmdbEnvironment {
    return new LmdbEnvironment(path, true);
  }

  private constructor(
    readonly path: string,
    readOnly = false,
  ) {
    this.#diskSpace = new DiskSpace(path, () => this.#freeBytes());
    // Not "writemap", though it commits faster: on a full disk it ends the process with SIGBUS
    // instead of an error.
    const options = { ...TABLE_ENCODING, noSubdir: false, noSync: true, maxDbs: 8, maxReaders: LMDB_READERS, readOnly };
    this.#root = this.#guarded(() => open<Buffer, Uint8Array>({ path, ...options }));
    try {
      const { keys, sessions, answers, leases, leaseKeys, effects } = this.#digest;
      this.#meta = this.#table("meta", rowKind.meta, new Tally());
      this.#keys = this.#table("keys", rowKind.key, keys);
      this.#heads = this.#table("sessions", rowKind.session, sessions);
      this.records = new LmdbRecords(this.#keys, keys);
      this.sessions = new LmdbSessions(this.#heads, new AnswerRows(this.#table("answers", rowKind.answer, answers)));
      this.effects = new EffectRows(this.#table("effects", rowKind.effects, effects));
      this.#leaseRows = this.#table("leases", rowKind.lease, leases);
      this.leases = new LmdbLeases(this.#leaseRows, this.#table("lease-keys", rowKind.leaseKey, leaseKeys), leases);
      const mark = this.readMark();
      if (mark === undefined) return;
      this.#digest.set(mark.digest);
      this.effects.known = mark.effects;
    } catch (error) {
      void this.#root.close();
      throw error;
    }
  }

  /**
   * Runs `action` as one transaction: all of its writes take effect, or none when it throws.
   * Readers see them at once; nothing is synced. `bytes`: largest growth of the state. Throws
   * CairnError DISK_FULL, BUSY, CORRUPT or STORAGE_FAILED.
   */
  transaction<T>(action: () => T, bytes = 0): T {
    if (bytes > 0) this.#diskSpace.check(bytes);
    const before = this.#digest.copy();
    const { known } = this.effects;
    this.#forgetReads();
    try {
      return this.#root.transactionSync(action);
    } catch (error) {
      this.#digest.set(before);
      this.effects.known = known;
      this.#forgetReads();
      throw this.#fromLmdb(error);
    }
  }

  /**
   * Returns the position of the last applied entry, and the digest of the rows, now or as a
   * transaction sees them; undefined when none was ever written. Throws CairnError CORRUPT.
   */
  readMark(transaction?: Transaction): StateMark | undefined {
    const row = this.#meta.getCopy(MARK_KEY, transaction);
    return row && decodeMark(row);
  }

  /**
   * Sets the applied position. Call it at the end of a transaction, since it also writes the
   * digest.
   */
  writeApplied(position: LogPosition): void {
    this.#meta.put(MARK_KEY, encodeMark({ ...position, digest: this.#digest, effects: this.effects.known }));
  }

  /**
   * Captures the present state for reading over time. Throws CairnError BUSY when there are too
   * many readers.
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
      throw overLimit(
        "BUSY",
        "stateReaders",
        `too many ranges and snapshots of the state are being read; ${limit}: try later`,
      );
    }
    this.#readers++;
    return () => this.#letGo();
  }

  /** Reads the present state at once; does not count as a reader. */
  read<T>(action: (transaction: Transaction) => T): T {
    const transaction = this.#guarded(() => this.#root.useReadTransaction());
    try {
      return action(transaction);
    } finally {
      transaction.done();
    }
  }

  /** Resolves when nobody reads. Call it once, when no new reader can come. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#readers === 0) resolve();
      else this.#whenIdle = resolve;
    });
  }

  /** Closes the files without syncing them. Nobody may be reading. */
  close(): Promise<void> {
    return this.#root.close();
  }

  #table(name: string, kind: RowKind, tally: Tally): SealedTable {
    const table = this.#guarded(() => this.#root.openDB(name, TABLE_ENCODING) as LmdbTable);
    this.#tables.push(table as unknown as { getStats(): unknown });
    return new SealedTable(table, name, kind, tally, (error) => this.#fromLmdb(error));
  }

  #forgetReads(): void {
    for (const table of [this.#meta, this.#keys, this.#heads, this.#leaseRows]) table.forgetReads();
  }

  /**
   * Returns the bytes of the data file's pages that no table uses. A reader may still hold some of
   * them.
   */
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

/** The state of an environment at one transaction, until it is closed. */
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

  get leases(): LmdbLeases {
    return this.environment.leases;
  }

  get effects(): EffectRows {
    return this.environment.effects;
  }

  /**
   * Applied position of this state, and its digest; undefined when none was ever written. Throws
   * CairnError CORRUPT.
   */
  get mark(): StateMark | undefined {
    return this.environment.readMark(this.transaction);
  }

  /**
   * Ends the read transaction; may be called more than once. All iterations over it must have
   * ended.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.transaction.done();
    this.letGo();
  }
}

/** Counts of a table's pages, as LMDB makes them. */
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
 * MDB_PAGE_NOTFOUND, MDB_CORRUPTED, MDB_VERSION_MISMATCH, MDB_INVALID; and the codes that only a
 * damaged tree can cause here: MDB_CURSOR_FULL, MDB_PAGE_FULL, MDB_INCOMPATIBLE, MDB_BAD_VALSIZE,
 * MDB_PROBLEM, MDB_BAD_CHECKSUM.
 */
const DAMAGE_CODES: ReadonlySet<number> = new Set([
  -30797, -30796, -30794, -30793, -30787, -30786, -30784, -30781, -30779, -30778,
]);
