import { dirname } from "node:path";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { File, FileSystem } from "../../system/fs.js";

/**
 * A snapshot file that is being written, under a name that marks it as unfinished. Gathers the
 * appended bytes into writes of limits.snapshotWriteBytes; while one buffer is being written, the
 * next one fills. Memory: two such buffers.
 */
export class PartFile {
  readonly path: string;
  readonly #fs: FileSystem;
  readonly #onReleased: OnReleased;
  #file: File | undefined;
  #released = false;
  #isLeftOver = false;
  /** Everything that the file held when it was opened is known to be synced. */
  #isProven = true;

  #filling = Buffer.allocUnsafe(limits.snapshotWriteBytes);
  #spare = Buffer.allocUnsafe(limits.snapshotWriteBytes);
  #filled = 0;
  /** Offset in the file of the filling buffer. */
  #position = 0;
  #unsynced = 0;
  #writing: Promise<void> = Promise.resolve();
  #syncing: Promise<void> = Promise.resolve();

  private constructor(fs: FileSystem, path: string, file: File, onReleased: OnReleased) {
    this.#fs = fs;
    this.path = path;
    this.#file = file;
    this.#onReleased = onReleased;
  }

  /**
   * Creates the file, in place of one that was left behind. `onReleased` is called once nothing
   * here uses the name, and told whether a file of that name remains.
   */
  static async create(fs: FileSystem, path: string, onReleased: OnReleased): Promise<PartFile> {
    if (await fs.exists(path)) await fs.unlink(path);
    return new PartFile(fs, path, await fs.open(path, "create"), onReleased);
  }

  /** Creates the file as {@link create} does; its name is durable on return. */
  static async createDurably(fs: FileSystem, path: string, onReleased: OnReleased): Promise<PartFile> {
    const part = await PartFile.create(fs, path, onReleased);
    try {
      await fs.syncDirectory(dirname(path));
      return part;
    } catch (error) {
      await part.remove();
      throw error;
    }
  }

  /**
   * Opens a file that was kept. Call {@link goOnAt} next with the number of useful bytes.
   * `isProven`: the whole file was synced. The disk may lack bytes that another process left,
   * although reads return them from memory.
   */
  static async reopen(fs: FileSystem, path: string, onReleased: OnReleased, isProven: boolean): Promise<PartFile> {
    const part = new PartFile(fs, path, await fs.open(path, "update"), onReleased);
    part.#isLeftOver = true;
    part.#isProven = isProven;
    return part;
  }

  /** The file is as an earlier use left it: nothing was cut off or appended yet. */
  get isLeftOver(): boolean {
    return this.#isLeftOver;
  }

  /**
   * Yields the first `bytes` bytes that an earlier use left, or fewer, in pieces that are valid
   * until the caller asks for the next. Unless they are proven to be on the disk, writes each piece
   * again: a failed sync marks its pages clean, and the next sync would skip them.
   */
  async *leftOver(bytes: number): AsyncGenerator<Uint8Array, void, void> {
    const file = this.#file!;
    const end = Math.min(bytes, await file.size());
    for (let at = 0; at < end; ) {
      const got = await file.read(this.#spare.subarray(0, end - at), at);
      if (got === 0) return;
      if (!this.#isProven) await this.#rewrite(file, got, at);
      yield this.#spare.subarray(0, got);
      at += got;
    }
  }

  /**
   * Cuts the file off after `bytes` bytes; later bytes are appended there. Call it before
   * {@link append}.
   */
  async goOnAt(bytes: number): Promise<void> {
    if ((await this.#file!.size()) !== bytes) await this.#file!.truncate(bytes);
    this.#position = bytes;
    this.#isLeftOver = false;
  }

  /**
   * Takes the next bytes; the caller may reuse them on return. May throw the error of an earlier
   * write.
   */
  async append(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.byteLength > 0; ) {
      const taken = Math.min(rest.byteLength, this.#filling.byteLength - this.#filled);
      this.#filling.set(rest.subarray(0, taken), this.#filled);
      this.#filled += taken;
      rest = rest.subarray(taken);
      if (this.#filled === this.#filling.byteLength) await this.#flush();
    }
  }

  /** Writes the rest and closes the file. All bytes are durable on return, the name is not. */
  async seal(): Promise<void> {
    const file = this.#file!;
    if (this.#filled > 0) await this.#flush();
    await this.#writing;
    await this.#syncing;
    const size = await file.size();
    if (size !== this.#position) {
      throw new CairnError("CORRUPT", `${this.path} has ${size} bytes on disk, expected the ${this.#position} written`);
    }
    await file.datasync();
    await this.#close();
  }

  /**
   * Gives the sealed file its final name, in place of the file that has it. Durable once the
   * directory is synced.
   */
  async rename(path: string): Promise<void> {
    await this.#fs.rename(this.path, path);
    this.#release(false);
  }

  /**
   * Keeps the file for a later transfer, with all appended bytes, durably; never throws. Removes a
   * file that cannot be written: nobody knows how much of it is on the disk.
   */
  async keep(): Promise<void> {
    if (this.#released) return;
    try {
      if (this.#isLeftOver) await this.#close();
      else if (this.#file !== undefined) {
        await this.seal();
        this.#isProven = true;
      }
      this.#release(true);
    } catch {
      await this.remove();
    }
  }

  /**
   * Removes the file; never throws. The next opening of the store removes a file that this cannot.
   */
  async remove(): Promise<void> {
    if (this.#released) return;
    // A write under way would fail on a closed descriptor, or hit another file that has the same
    // descriptor by then.
    await Promise.allSettled([this.#writing, this.#syncing]);
    await this.#close().catch(() => undefined);
    await this.#fs.unlink(this.path).catch(() => undefined);
    this.#release(false);
  }

  async #rewrite(file: File, bytes: number, position: number): Promise<void> {
    await file.write([this.#spare.subarray(0, bytes)], position);
    this.#unsynced += bytes;
    if (this.#unsynced < limits.snapshotSyncBytes) return;
    await file.datasync();
    this.#unsynced = 0;
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #flush(): Promise<void> {
    await this.#writing;
    await this.#syncNowAndThen();
    this.#writing = handled(this.#file!.write([this.#filling.subarray(0, this.#filled)], this.#position));
    this.#position += this.#filled;
    this.#unsynced += this.#filled;
    this.#filled = 0;
    [this.#filling, this.#spare] = [this.#spare, this.#filling];
  }

  async #syncNowAndThen(): Promise<void> {
    if (this.#unsynced < limits.snapshotSyncBytes) return;
    await this.#syncing;
    this.#syncing = handled(this.#file!.datasync());
    this.#unsynced = 0;
  }

  #release(isLeft: boolean): void {
    if (this.#released) return;
    this.#released = true;
    this.#onReleased(isLeft, this.#isProven);
  }
}

/**
 * Reports that a part file is no longer in use. `isLeft`: the file remains. `isProven`: all of it
 * was synced.
 */
export type OnReleased = (isLeft: boolean, isProven: boolean) => void;

/** Marks a promise that is awaited later as handled, so that its failure is not reported before. */
function handled(promise: Promise<void>): Promise<void> {
  promise.catch(() => undefined);
  return promise;
}
