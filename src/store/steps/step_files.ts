import { limits } from "../../base/limits.js";
import { type FileSystem, writeSmallFile } from "../../system/fs.js";
import { type Manifest, manifestName, tablesOf } from "../levels/manifest.js";
import { encodeManifest } from "../levels/manifest_bytes.js";
import type { StoreRules } from "../rules/rules.js";
import { TableFiles } from "../tables/files.js";
import { type TableInfo, tableName } from "../tables/format.js";
import { PageCache } from "../tables/page_cache.js";
import { Table } from "../tables/table.js";
import { TableWriter } from "../tables/writer.js";

/** Pages that a step looks keys up in. Merges read past the cache. */
const CACHE_BYTES = 1024 * 1024;

/** A place to carry steps out in. */
export interface StepWorld {
  readonly fs: FileSystem;
  readonly directory: string;
  /** Called when bytes were written: waits until the rate allows more. */
  readonly pace?: (bytes: number) => Promise<void> | undefined;
  /** Told of the share of the step that is done, about. */
  readonly progress?: (share: number) => void;
}

/** The files that one step reads and writes. */
export class StepFiles {
  readonly #files: TableFiles;
  readonly #cache: PageCache;
  readonly #tables = new Map<number, Promise<Table>>();
  /** Bytes that this step will write, about. */
  expectedBytes = 0;
  #flushedBytes = 0;
  #unsyncedBytes = 0;
  /** Numbers of the tables begun by this step. */
  readonly #created: number[] = [];
  /** Bytes of tables written by this step. */
  writtenBytes = 0;

  constructor(
    readonly fs: FileSystem,
    readonly directory: string,
    private readonly rules: StoreRules,
    /** Number of the next table. */
    public nextTable: number,
    private readonly world: Pick<StepWorld, "pace" | "progress"> = {},
  ) {
    this.#files = new TableFiles(fs, directory);
    this.#cache = new PageCache(CACHE_BYTES, rules.pageBytes);
  }

  /** Opens a table, once. @throws CairnError CORRUPT, BUSY */
  readonly open = (info: TableInfo): Promise<Table> => {
    let table = this.#tables.get(info.number);
    if (table === undefined) {
      table = Table.open(this.#files, this.#cache, info, this.rules);
      this.#tables.set(info.number, table);
    }
    return table;
  };

  /** Begins the next table. Removes what an attempt that was cut short has left of it. */
  async create(filter: boolean): Promise<TableWriter> {
    const number = this.nextTable++;
    const path = `${this.directory}/${tableName(number)}`;
    this.#created.push(number);
    if (await this.fs.exists(path)) await this.fs.unlink(path);
    return TableWriter.create(this.fs, this.directory, this.rules, { number, filter });
  }

  /** Writes what a table has gathered, at the pace of the step. */
  async flush(writer: TableWriter): Promise<void> {
    const bytes = await writer.flush();
    this.#flushedBytes += bytes;
    this.#unsyncedBytes += bytes;
    if (this.expectedBytes > 0) this.world.progress?.(this.#flushedBytes / this.expectedBytes);
    if (this.#unsyncedBytes >= limits.snapshotSyncBytes) {
      // Short syncs: one of the log waits behind each of them.
      this.#unsyncedBytes = 0;
      await writer.sync();
    }
    await this.world.pace?.(bytes);
  }

  /** Removes the tables that were written: they take the room that the next attempt needs. */
  async discard(): Promise<void> {
    for (const number of this.#created) {
      await this.fs.unlink(`${this.directory}/${tableName(number)}`).catch(() => {});
    }
    await this.close();
  }

  /**
   * Makes the tables durable, then the manifest. Removes tables that were made and merged within
   * this step.
   */
  async publish(manifest: Manifest): Promise<void> {
    const named = new Set([...tablesOf(manifest)].map(({ number }) => number));
    for (const number of this.#created) {
      if (!named.has(number)) await this.fs.unlink(`${this.directory}/${tableName(number)}`);
    }
    await this.fs.syncDirectory(this.directory);
    await writeSmallFile(this.fs, this.directory, manifestName(manifest.position), encodeManifest(manifest));
  }

  async close(): Promise<void> {
    await this.#files.close();
  }
}
