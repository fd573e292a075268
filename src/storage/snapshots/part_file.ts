import { limits } from "../../core/limits.js";
import { CairnError } from "../../errors.js";
import type { File, FileSystem } from "../fs.js";

/**
 * A snapshot file that is being written under a name that says so. Gathers what is appended into writes of limits.snapshotWriteBytes;
 * one buffer is being written while the next one fills. Memory: two such buffers.
 */
export class PartFile {
  readonly path: string;
  readonly #fs: FileSystem;
  readonly #onGone: () => void;
  #file: File | undefined;
  #gone = false;

  #filling = Buffer.allocUnsafe(limits.snapshotWriteBytes);
  #spare = Buffer.allocUnsafe(limits.snapshotWriteBytes);
  #filled = 0;
  /** Place in the file where the filling buffer goes. */
  #position = 0;
  #unsynced = 0;
  #writing: Promise<void> = Promise.resolve();
  #syncing: Promise<void> = Promise.resolve();

  private constructor(fs: FileSystem, path: string, file: File, onGone: () => void) {
    this.#fs = fs;
    this.path = path;
    this.#file = file;
    this.#onGone = onGone;
  }

  /** Creates the file, in place of one that was left behind. `onGone` is called once there is no file of this name any more. */
  static async create(fs: FileSystem, path: string, onGone: () => void): Promise<PartFile> {
    try {
      if (await fs.exists(path)) await fs.unlink(path);
      return new PartFile(fs, path, await fs.open(path, "create"), onGone);
    } catch (error) {
      onGone();
      throw error;
    }
  }

  /** Takes the next bytes; they may be reused on return. An error of an earlier write may come out here. */
  async append(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.byteLength > 0; ) {
      const taken = Math.min(rest.byteLength, this.#filling.byteLength - this.#filled);
      this.#filling.set(rest.subarray(0, taken), this.#filled);
      this.#filled += taken;
      rest = rest.subarray(taken);
      if (this.#filled === this.#filling.byteLength) await this.#flush();
    }
  }

  /** Writes what is left and closes the file. All bytes are durable on return, the name is not. */
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
    this.#file = undefined;
    await file.close();
  }

  /** Gives the sealed file its final name, in place of what has that name. Durable once the directory is synced. */
  async rename(path: string): Promise<void> {
    await this.#fs.rename(this.path, path);
    this.#markGone();
  }

  /** Removes the file; never throws. A file that cannot be removed goes when the store is opened next. */
  async remove(): Promise<void> {
    if (this.#gone) return;
    // A write under way would fail on a closed descriptor, or hit a file that has the same descriptor by then.
    await Promise.allSettled([this.#writing, this.#syncing]);
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => undefined);
    await this.#fs.unlink(this.path).catch(() => undefined);
    this.#markGone();
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

  #markGone(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#onGone();
  }
}

/** A promise that is awaited later: its failure is no unhandled rejection until then. */
function handled(promise: Promise<void>): Promise<void> {
  promise.catch(() => undefined);
  return promise;
}
