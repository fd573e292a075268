import type { Raft } from "../raft/raft.js";

/** The view of a node that its parts use. */
export interface NodeHost {
  /** The node's name. */
  readonly id: string;
  /** Its member key (see ids.ts). */
  readonly key: string;
  /** For reading only; change it through {@link core}. */
  readonly raft: Raft;
  /** Runs a change on the core. The core throws only when it is broken, and that ends the node. */
  core<Result>(change: (raft: Raft) => Result): Result;
  /** Schedules a turn of the node's work. Call this after giving anything to the core. */
  wake(): void;
  /** @throws CairnError STOPPED */
  assertRunning(): void;
  /** Ends the node: it cannot continue. */
  fail(error: unknown): void;
}
