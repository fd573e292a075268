import type { SnapshotMeasure } from "../encoding/snapshot_file.js";
import type { SnapshotHeader } from "../encoding/snapshot_header.js";
import type { Entry, SnapshotMeta } from "../raft/types.js";

/** Answer of the state machine to one entry. */
export interface ApplyResult<Result> {
  readonly index: number;
  /** Undefined for entries that are not commands. */
  readonly result: Result | undefined;
}

/** A state machine as it was at one index. Its owner must release it. */
export interface StateView {
  /** Last index whose effect the view shows. */
  readonly appliedIndex: number;
  /**
   * The snapshot payload: the same bytes on every replica for the same applied prefix, whatever the
   * pieces. A piece is valid until the next one is asked for. May be called once.
   */
  payload(): AsyncIterable<Uint8Array>;
  /**
   * Returns the bytes of the whole snapshot file with this header, and their measure: the same
   * bytes as {@link encodeSnapshot} makes of the payload. For views that can make them off the main
   * thread. Called in place of {@link payload}, under the same rules.
   */
  snapshotFile?(header: SnapshotHeader): AsyncGenerator<Uint8Array, SnapshotMeasure, void>;
  /**
   * Ends the view; may be called more than once. A payload that is being read ends with an error.
   */
  release(): void;
}

/**
 * The state that committed entries build: Cairn's key-value store, or an application's own.
 * Deterministic: the state is a function of the entries applied, with nothing local and no clock.
 */
export interface StateMachine<Result = unknown> {
  /** Index of the last entry applied; 0 when none is. */
  readonly appliedIndex: number;
  /**
   * Why the machine has opened empty, in words; undefined when it uses what its directory held. For
   * the log.
   */
  readonly rebuildReason?: string | undefined;
  /**
   * Aborted, with the reason, when the machine has found its state damaged, and remembers that on
   * disk: the node then stops, and its next start builds the state anew from snapshot and log.
   * Machines that cannot find that out leave it away.
   */
  readonly damaged?: AbortSignal;
  /**
   * Applies consecutive committed entries, the first of which is appliedIndex + 1; returns one
   * result for each. Entries that are not commands only move appliedIndex. All or nothing: when it
   * throws, no entry is applied. Throws CairnError DISK_FULL when there is no room; the same
   * entries may be applied later. Not durable on return: the durable truth is snapshot + log.
   */
  apply(entries: readonly Entry[]): readonly ApplyResult<Result>[];
  /**
   * The state as it is at the call, or at an index that is applied before the answer: the view says
   * which. In O(1), and unaffected by entries applied later.
   */
  capture(): Promise<StateView>;
  /**
   * Replaces the state by a snapshot's. All or nothing: readers see the old state or the new one,
   * and when it throws the old one stays. A payload that is not in order throws CairnError CORRUPT.
   */
  restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta): Promise<void>;
  /** Makes the state durable where it can be, and lets go of all resources. */
  close(): Promise<void>;
  /** Lets go of all resources as a crash would: nothing more is written. */
  crash(): Promise<void>;
}
