import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { File, FileSystem } from "../../system/fs.js";
import { damagedTable, tableName } from "./format.js";

/** The file of a table, open or not. */
export interface TableFile {
  readonly path: string;
}

class OwnFile implements TableFile {
  file: File | undefined;
  /** Reads under way in the thread pool; the file stays open meanwhile. */
  readers = 0;
  usedAt = 0;

  constructor(readonly path: string) {}
}

/**
 * Reads the files of tables, and keeps at most `most` of them open: a store may have more tables
 * than a process may have descriptors.
 *
 * Errors of reads: CORRUPT when a file is missing, ends early or cannot be read; BUSY when no
 * descriptor is free although all of these are closed. Reads in the thread pool wait for each
 * other's descriptors before that.
 */
export class TableFiles {
  readonly #entries = new Set<OwnFile>();
  readonly #open = new Set<OwnFile>();
  /** Calls under way in the thread pool. */
  readonly #calls = new Set<Promise<unknown>>();
  /** Calls that wait for a descriptor: each call that ends wakes one. */
  readonly #waiting: (() => void)[] = [];
  #uses = 0;

  constructor(
    readonly fs: FileSystem,
    readonly directory: string,
    private readonly most: number = limits.storeOpenFiles,
  ) {}

  /** Number of open descriptors. */
  get descriptors(): number {
    return this.#open.size;
  }

  /** Returns the file of a table; {@link forget} ends its use. */
  add(table: number): TableFile {
    const entry = new OwnFile(`${this.directory}/${tableName(table)}`);
    this.#entries.add(entry);
    return entry;
  }

  /** Fills `buffer` from a position, on the calling thread. */
  readNow(file: TableFile, buffer: Uint8Array, position: number): void {
    const entry = file as OwnFile;
    try {
      const opened = this.#opened(entry);
      // Calls that wait may be for this file, which is open now.
      if (entry.readers > 0) for (const wake of this.#waiting.splice(0)) wake();
      const bytes = opened.readNow(buffer, position);
      checkLength(entry, buffer, position, bytes);
    } catch (error) {
      throw fromReadError(entry, position, error);
    }
  }

  /** Fills `buffer` from a position. */
  read(file: TableFile, buffer: Uint8Array, position: number): Promise<void> {
    const entry = file as OwnFile;
    return this.#inPool(entry, position, async (opened) => {
      checkLength(entry, buffer, position, await opened.read(buffer, position));
    });
  }

  /** Returns the size of a file. */
  size(file: TableFile): Promise<number> {
    return this.#inPool(file as OwnFile, 0, (opened) => opened.size());
  }

  /** Closes the file of a table that is no longer read. */
  forget(file: TableFile): void {
    this.#entries.delete(file as OwnFile);
    this.#close(file as OwnFile);
  }

  /** Waits for the reads under way, and closes all files. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#calls);
    for (const entry of [...this.#open]) this.#close(entry);
  }

  /** Runs a call on a file that stays open meanwhile. */
  #inPool<Result>(entry: OwnFile, position: number, action: (file: File) => Promise<Result>): Promise<Result> {
    const call = this.#call(entry, action).catch((error: unknown) => {
      throw fromReadError(entry, position, error);
    });
    this.#calls.add(call);
    const end = () => void this.#calls.delete(call);
    call.then(end, end);
    return call;
  }

  async #call<Result>(entry: OwnFile, action: (file: File) => Promise<Result>): Promise<Result> {
    entry.readers += 1;
    try {
      return await action(await this.#openedInTurn(entry));
    } finally {
      entry.readers -= 1;
      if (!this.#entries.has(entry)) this.#close(entry);
      this.#waiting.shift()?.();
    }
  }

  /** Opens a file, as soon as a descriptor is free for it. */
  async #openedInTurn(entry: OwnFile): Promise<File> {
    for (;;) {
      const isFree = entry.file !== undefined || this.#open.size < this.most || this.#closeOne();
      try {
        if (isFree) return this.#opened(entry);
      } catch (error) {
        if (!hasCode(error, "BUSY") || !this.#isRead) throw error;
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Whether a read holds a descriptor, so that one will be free. */
  get #isRead(): boolean {
    return [...this.#open].some(({ readers }) => readers > 0);
  }

  #opened(entry: OwnFile): File {
    this.#uses += 1;
    entry.usedAt = this.#uses;
    if (entry.file !== undefined) return entry.file;
    while (this.#open.size >= this.most && this.#closeOne());
    for (;;) {
      try {
        entry.file = this.fs.openNow(entry.path);
        this.#open.add(entry);
        return entry.file;
      } catch (error) {
        if (!hasCode(error, "BUSY") || !this.#closeOne()) throw error;
      }
    }
  }

  /** Closes the file that was not read for the longest time; false when all are being read. */
  #closeOne(): boolean {
    let oldest: OwnFile | undefined;
    for (const entry of this.#open) {
      if (entry.readers === 0 && (oldest === undefined || entry.usedAt < oldest.usedAt)) oldest = entry;
    }
    if (oldest === undefined) return false;
    this.#close(oldest);
    return true;
  }

  #close(entry: OwnFile): void {
    if (entry.readers > 0 || entry.file === undefined) return;
    this.#open.delete(entry);
    const { file } = entry;
    entry.file = undefined;
    try {
      file.closeNow();
    } catch {
      // It was only read: nothing is lost with it.
    }
  }
}

function checkLength({ path }: TableFile, buffer: Uint8Array, position: number, bytes: number): void {
  if (bytes < buffer.byteLength) throw damagedTable(path, position + bytes, "it ends here");
}

/** Returns CORRUPT for an error of the operating system, and any other error unchanged. */
function fromReadError({ path }: TableFile, position: number, error: unknown): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof CairnError || typeof code !== "string") return error;
  return damagedTable(path, position, `it cannot be read (${code})`, error);
}
