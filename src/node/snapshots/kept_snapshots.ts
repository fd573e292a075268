import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import type { Clock } from "../../system/clock.js";

interface Kept {
  readonly index: number;
  readonly release: () => void;
}

/**
 * Retains the snapshots of interrupted transfers for a while, so that the next transfer to the same
 * receiver can resume.
 */
export class KeptSnapshots {
  /** Retained snapshots by receiver. */
  readonly #kept = new Map<string, Kept>();

  constructor(
    private readonly snapshots: SnapshotStore,
    private readonly clock: Clock,
    /** Milliseconds for which a snapshot is retained. */
    private readonly keepMs: number,
  ) {}

  /** Indexes of the retained snapshots. */
  get indexes(): readonly number[] {
    return [...this.#kept.values()].map(({ index }) => index);
  }

  /** Retains a snapshot for a receiver, in place of an earlier one. */
  keep(to: string, info: SnapshotInfo): void {
    this.release(to);
    if (!this.snapshots.list().includes(info)) return;
    const unpin = this.snapshots.pin(info);
    const release = () => {
      callOff();
      unpin();
      this.#kept.delete(to);
    };
    const callOff = this.clock.after(this.keepMs, release);
    this.#kept.set(to, { index: info.index, release });
  }

  release(to: string): void {
    this.#kept.get(to)?.release();
  }

  /** Releases the snapshot of a receiver that has accepted the one at `index`, if it is another. */
  accepted(to: string, index: number): void {
    const kept = this.#kept.get(to);
    if (kept?.index !== index) kept?.release();
  }

  /** Releases the snapshots of receivers that no longer need them. */
  releaseUnless(isNeeded: (to: string) => boolean): void {
    for (const [to, { release }] of this.#kept) if (!isNeeded(to)) release();
  }
}
