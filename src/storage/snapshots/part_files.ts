import { join } from "node:path";
import { CairnError } from "../../base/errors.js";
import type { LogPosition } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import { Serial } from "../../system/serial.js";
import { parseReceivedPartName, partFileName } from "./file_names.js";
import { type OnReleased, PartFile } from "./part_file.js";
import type { SnapshotOffer, StoreLogger } from "./snapshot_info.js";

/**
 * The part files of a snapshot directory: those that are being written, and at most one that a
 * transfer has left, for the next offer of the same snapshot to go on with.
 */
export class PartFiles {
  readonly #fs: FileSystem;
  readonly #directory: string;
  readonly #logger: StoreLogger | undefined;
  /** Names of those that are being written. */
  readonly #inUse = new Set<string>();
  /**
   * Names of those that transfers have left, and whether this process has synced all that they
   * hold.
   */
  readonly #left = new Map<string, boolean>();
  /** A name must not be taken while the file of that name is being removed. */
  readonly #turns = new Serial();

  constructor(fs: FileSystem, directory: string, logger: StoreLogger | undefined) {
    this.#fs = fs;
    this.#directory = directory;
    this.#logger = logger;
  }

  /** For a snapshot that this node writes itself. Throws BUSY when it is being written. */
  create(position: LogPosition): Promise<PartFile> {
    return this.#claiming(partFileName(position), (path, onReleased) => PartFile.create(this.#fs, path, onReleased));
  }

  /**
   * For a snapshot that is offered: what was left of it, or a new file, in place of what was left
   * of any other. Throws BUSY.
   */
  open(offer: SnapshotOffer): Promise<PartFile> {
    const name = partFileName(offer, offer.sha256);
    return this.#claiming(name, async (path, onReleased) => {
      const isProven = this.#left.get(name);
      this.#left.delete(name);
      for (const other of this.#left.keys()) await this.#remove(other);
      if (isProven === undefined) return PartFile.createDurably(this.#fs, path, onReleased);
      return PartFile.reopen(this.#fs, path, onReleased, isProven);
    });
  }

  /** Bytes that were left of a snapshot, not verified. */
  async bytesOf(offer: SnapshotOffer): Promise<number> {
    const name = partFileName(offer, offer.sha256);
    if (!this.#left.has(name)) return 0;
    const file = await this.#fs.open(this.#pathOf(name), "read");
    try {
      return await file.size();
    } finally {
      await file.close();
    }
  }

  /**
   * A snapshot at `index` is there: what was left of others up to that one is worth nothing any
   * more.
   */
  removeUpTo(index: number): Promise<void> {
    return this.#turns.run(async () => {
      for (const name of this.#left.keys()) {
        if (parseReceivedPartName(name)!.index <= index) await this.#remove(name);
      }
    });
  }

  /**
   * When the directory is opened: removes all of `names` but the received one that has come
   * furthest, if that is above `newestIndex`.
   */
  async tidy(names: readonly string[], newestIndex: number): Promise<void> {
    const received = names.filter((name) => (parseReceivedPartName(name)?.index ?? 0) > newestIndex).sort();
    const kept = received.at(-1);
    for (const name of names) if (name !== kept) await this.#remove(name);
    if (kept === undefined) return;
    this.#left.set(kept, false);
    this.#logger?.info({ path: this.#pathOf(kept) }, "kept a half-received snapshot");
  }

  #claiming(name: string, open: (path: string, onReleased: OnReleased) => Promise<PartFile>) {
    return this.#turns.run(async () => {
      const path = this.#pathOf(name);
      if (this.#inUse.has(name)) {
        throw new CairnError("BUSY", `${path} is being written; wait until it is done, or abort it`);
      }
      this.#inUse.add(name);
      try {
        return await open(path, (isLeft, isProven) => {
          this.#inUse.delete(name);
          if (isLeft) this.#left.set(name, isProven);
        });
      } catch (error) {
        this.#inUse.delete(name);
        throw error;
      }
    });
  }

  async #remove(name: string): Promise<void> {
    const path = this.#pathOf(name);
    await this.#fs.unlink(path);
    this.#left.delete(name);
    this.#logger?.info({ path }, "removed a half-written snapshot");
  }

  #pathOf(name: string): string {
    return join(this.#directory, name);
  }
}
