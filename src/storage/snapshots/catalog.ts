import type { LogPosition } from "../../raft/types.js";
import type { DamagedSnapshot, SnapshotInfo } from "./snapshot_info.js";

/** Tracks the files of a snapshot directory: each is a snapshot or damaged, never both. */
export class SnapshotCatalog {
  #snapshots: readonly SnapshotInfo[] = [];
  #damaged: readonly DamagedSnapshot[] = [];

  /** Newest first. */
  get snapshots(): readonly SnapshotInfo[] {
    return this.#snapshots;
  }

  get damaged(): readonly DamagedSnapshot[] {
    return this.#damaged;
  }

  find({ index, term }: LogPosition): SnapshotInfo | undefined {
    return this.#snapshots.find((info) => info.index === index && info.term === term);
  }

  /** Adds a snapshot, and forgets the file that its path held before. */
  add(info: SnapshotInfo): void {
    this.#forget(info.path);
    this.#snapshots = [...this.#snapshots, info].sort(newestFirst);
  }

  remove(info: SnapshotInfo): void {
    this.#forget(info.path);
  }

  markDamaged(damaged: DamagedSnapshot): void {
    this.#forget(damaged.path);
    this.#damaged = [...this.#damaged, damaged];
  }

  #forget(path: string): void {
    this.#snapshots = this.#snapshots.filter((info) => info.path !== path);
    this.#damaged = this.#damaged.filter((damaged) => damaged.path !== path);
  }
}

function newestFirst(a: SnapshotInfo, b: SnapshotInfo): number {
  return b.index - a.index || b.term - a.term;
}
