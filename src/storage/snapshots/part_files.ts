import { join } from "node:path";
import { CairnError } from "../../base/errors.js";
import type { LogPosition } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import { Serial } from "../../system/serial.js";
import { parseReceivedPartName, partFileName } from "./file_names.js";
import { type OnReleased, PartFile } from "./part_file.js";
import type { SnapshotOffer, StoreLogger } from "./snapshot_info.js";

/**
 * Tracks the part files of a snapshot directory: those being written, and at most one that a
 * transfer left, for the next offer of the same snapshot to resume with.
 */
export class PartFiles {
  readonly #fs: FileSystem;
  readonly #directory: string;
  readonly #logger: StoreLogger | undefined;
  /** Names of the files being written. */
  readonly #inUse = new Set<string>();
  /** Names of the files that transfers left, and whether this process synced all of their bytes. */
  readonly #left = new Map<string, boolean>();
  /** Runs calls one at a time: a name must not be taken while its file is being removed. */
  readonly #turns = new Serial();

  constructor(fs: FileSystem, directory: string, logger: StoreLogger | undefined) {
    this.#fs = fs;
    this.#directory = directory;
    this.#logger = logger;
  }

  /**
   * Creates the file of a snapshot that this node writes. Throws BUSY while that is being written.
   */
  create(position: LogPosition): Promise<PartFile> {
    return this.#claiming(partFileName(position), (path, onReleased) => PartFile.create(this.#fs, path, onReleased));
  }

  /**
   * Opens the file of an offered snapshot: the part that was left of it, or a new file. Removes the
   * parts of all other snapshots. Throws BUSY.
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

  /** Returns the bytes that were left of a snapshot, not verified. */
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

  /** Removes the parts of snapshots up to `index`: a snapshot at `index` makes them worthless. */
  removeUpTo(index: number): Promise<void> {
    return this.#turns.run(async () => {
      for (const name of this.#left.keys()) {
        if (parseReceivedPartName(name)!.index <= index) await this.#remove(name);
      }
    });
  }

  /**
   * Removes the files in `names` when the directory is opened, except the received part with the
   * highest index, if that is above `newestIndex`.
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
