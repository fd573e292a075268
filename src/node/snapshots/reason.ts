import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";

/**
 * Trigger of a snapshot that a node takes without being asked: see {@link SnapshotPolicy}.
 * `missing`: the log continues from no good snapshot, because the one that it begins behind was
 * lost or damaged.
 */
export type SnapshotTrigger = "entries" | "log_bytes" | "log_ratio" | "age" | "missing";

/**
 * Reason for a snapshot. `requested`: a caller asked for it. `follower`: a follower needs one, and
 * the log continued from none. `installed`: it was not taken here, but sent by a leader.
 */
export type SnapshotReason = SnapshotTrigger | "requested" | "follower" | "installed";

/** The newest snapshot that was taken or installed since the node started. */
export interface LastSnapshot {
  readonly index: number;
  readonly reason: SnapshotReason;
  /** Time at which it was done, in milliseconds since 1970. */
  readonly finishedUnixMs: number;
  readonly durationMs: number;
  /** Size of the file. */
  readonly fileBytes: number;
}

/** The log of a node around its newest snapshot. */
export interface RetentionView {
  /** Bytes of entries that were applied since that snapshot. */
  readonly bytesSinceSnapshot: number;
  /** Bytes of entries that are retained for followers that are catching up by snapshot. */
  readonly pinnedBytes: number;
  /**
   * For each transfer of a snapshot to a follower, by its member key: the bytes by which the log
   * that is kept for the follower exceeds the log that is written until it has the snapshot. Below
   * 0, the follower cannot catch up. Missing while it is too early to tell.
   */
  readonly margins: ReadonlyMap<string, number>;
}

/** The snapshots of a node. */
export interface SnapshottingView {
  /** The newest snapshot since the start. */
  readonly last: LastSnapshot | undefined;
  /** Warnings about snapshots, for an operator. */
  readonly warnings: readonly string[];
}

/** Called when a snapshot is complete, with the milliseconds that it took. */
export type SnapshotDone = (info: SnapshotInfo, reason: SnapshotReason, durationMs: number) => void;
