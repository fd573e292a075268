import type { SnapshotMeasure } from "../encoding/snapshot_file.js";
import type { SnapshotHeader } from "../encoding/snapshot_header.js";
import type { Entry, SnapshotMeta } from "../raft/types.js";

/** Answer of the state machine to one entry. */
export interface ApplyResult<Result> {
  readonly index: number;
  /** Undefined for entries that are not commands. */
  readonly result: Result | undefined;
}

/** State of a machine as it was at one index. Its owner must release it. */
export interface StateView {
  /** Last index whose effect the view shows. */
  readonly appliedIndex: number;
  /**
   * Returns the snapshot payload: the same bytes on every replica for the same applied prefix,
   * however they are cut into pieces. A piece is valid until the caller asks for the next. May be
   * called once.
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
 * Deterministic: the state is a function of the applied entries, with nothing local and no clock.
 */
export interface StateMachine<Result = unknown> {
  /** Index of the last entry applied; 0 when there is none. */
  readonly appliedIndex: number;
  /**
   * Reason why the machine opened empty, in words, for the log; undefined when it uses the state
   * that its directory held.
   */
  readonly rebuildReason?: string | undefined;
  /**
   * Aborted, with the reason, when the machine has found its state damaged, and remembers that on
   * disk: the node then stops, and its next start rebuilds the state from snapshot and log. Absent
   * on machines that cannot find damage.
   */
  readonly damaged?: AbortSignal;
  /**
   * Prepares for the {@link apply} of these entries, which follows: reads from the disk what they
   * need, so that apply need not wait for it. Undefined when nothing is to be waited for. The node
   * keeps writing its log and answering other members meanwhile. Absent on machines that have
   * nothing to prepare.
   */
  prepare?(entries: readonly Entry[]): Promise<void> | undefined;
  /**
   * Newest version of the rules for commands that this program knows. Absent on machines whose
   * rules have one version. @internal
   */
  readonly newestRules?: number;
  /** Version of these rules in force: the highest that an applied command named. @internal */
  readonly rulesInForce?: number;
  /**
   * Applies consecutive committed entries, the first of which is appliedIndex + 1; returns one
   * result for each. Entries that are not commands only move appliedIndex. All or nothing: when it
   * throws, no entry is applied. Throws CairnError DISK_FULL when there is no room; the same
   * entries may be applied later. Not durable on return: snapshot and log are the durable truth.
   */
  apply(entries: readonly Entry[]): readonly ApplyResult<Result>[];
  /**
   * Captures the state as it is at the call, or at a later index that is applied before the answer:
   * the view says which. Takes O(1), and entries applied later do not affect the view.
   */
  capture(): Promise<StateView>;
  /**
   * Replaces the state by a snapshot's. All or nothing: readers see the old state or the new one,
   * and an error leaves the old one. Throws CairnError CORRUPT for a damaged payload.
   */
  restore(payload: AsyncIterable<Uint8Array>, at: SnapshotMeta): Promise<void>;
  /**
   * Notes that the node's log no longer holds the entries up to `index`. Absent on machines that
   * keep nothing about single entries.
   */
  logTrimmed?(index: number): void;
  /** Makes the state durable where it can be, and releases all resources. */
  close(): Promise<void>;
  /** Releases all resources as a crash would: writes nothing more. */
  crash(): Promise<void>;
}
