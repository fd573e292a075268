import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";

/**
 * What makes a node take a snapshot without being asked: see {@link SnapshotPolicy}. `missing`: the
 * log goes on from no good snapshot, because the one that it begins behind was lost or damaged.
 */
export type SnapshotTrigger = "entries" | "log_bytes" | "log_ratio" | "age" | "missing";

/**
 * Why there is a snapshot. `requested`: somebody asked for it. `follower`: a follower needs one,
 * and there was none that the log goes on from. `installed`: it was not taken here, but sent by a
 * leader.
 */
export type SnapshotReason = SnapshotTrigger | "requested" | "follower" | "installed";

/** The newest snapshot that was taken or installed since the node started. */
export interface LastSnapshot {
  readonly index: number;
  readonly reason: SnapshotReason;
  /** When it was done, in milliseconds since 1970. */
  readonly finishedUnixMs: number;
  readonly durationMs: number;
  /** Size of the file. */
  readonly fileBytes: number;
}

/** A snapshot is there now; it took so many milliseconds. */
export type SnapshotDone = (info: SnapshotInfo, reason: SnapshotReason, durationMs: number) => void;
