import { CairnError, hasCode } from "../../base/errors.js";
import type { SnapshotMeta } from "../../raft/types.js";
import { Serial } from "../../system/serial.js";
import { snapshotLabel } from "./inspect.js";
import type { PartFile } from "./part_file.js";
import type { SnapshotInfo } from "./snapshot_info.js";

/**
 * A received snapshot: verified, its bytes durable, not yet among the store's snapshots. After a
 * crash it counts as received in part.
 */
export class StagedSnapshot {
  /** Describes the snapshot once it is published; until then no file is at its path. */
  readonly info: SnapshotInfo;
  readonly #part: PartFile;
  readonly #publish: (info: SnapshotInfo) => Promise<SnapshotInfo>;
  readonly #calls = new Serial();
  #published: SnapshotInfo | undefined;
  #discarded = false;

  constructor(info: SnapshotInfo, part: PartFile, publish: (info: SnapshotInfo) => Promise<SnapshotInfo>) {
    this.info = info;
    this.#part = part;
    this.#publish = publish;
  }

  get meta(): SnapshotMeta {
    return this.info;
  }

  /**
   * Publishes the snapshot in the store; durable on return. A second call returns the same. Throws
   * DISK_FULL: nothing has changed, try again later. Any other error removes the file; CORRUPT when
   * the store has a snapshot of this index and term with another digest, FAILED_PRECONDITION when
   * this one was discarded.
   */
  publish(): Promise<SnapshotInfo> {
    return this.#calls.run(async () => {
      if (this.#published !== undefined) return this.#published;
      if (this.#discarded) {
        throw new CairnError("FAILED_PRECONDITION", `${snapshotLabel(this.info.path)} was discarded; receive it again`);
      }
      try {
        this.#published = await this.#publish(this.info);
        return this.#published;
      } catch (error) {
        this.#discarded = !hasCode(error, "DISK_FULL");
        throw error;
      }
    });
  }

  /** Removes the file; never throws. Does nothing once it is published, discarded or kept. */
  discard(): Promise<void> {
    return this.#end(() => this.#part.remove());
  }

  /**
   * Keeps the file for another transfer of the same snapshot. Does nothing once it is published,
   * discarded or kept.
   */
  keep(): Promise<void> {
    return this.#end(() => this.#part.keep());
  }

  #end(task: () => Promise<void>): Promise<void> {
    return this.#calls.run(async () => {
      if (this.#discarded || this.#published !== undefined) return;
      this.#discarded = true;
      await task();
    });
  }
}
