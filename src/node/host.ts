import type { Raft } from "../raft/raft.js";

/** What the parts of a node need of it. */
export interface NodeHost {
  /** The node's name. */
  readonly id: string;
  /** Its member key (see ids.ts). */
  readonly key: string;
  /** To look at; change it through {@link core}. */
  readonly raft: Raft;
  /** Lets the core do something. It throws only when it is broken, which ends the node. */
  core<Result>(change: (raft: Raft) => Result): Result;
  /** Something was given to the core: what comes of it is seen to soon. */
  wake(): void;
  /** @throws CairnError STOPPED */
  assertRunning(): void;
  /** The node cannot go on. */
  fail(error: unknown): void;
}

/** What of the core everybody may look at. */
export type RaftView = Pick<
  Raft,
  | "term"
  | "role"
  | "leader"
  | "log"
  | "snapshot"
  | "membership"
  | "isEstablishedLeader"
  | "transferTarget"
  | "isInstalling"
  | "progress"
  | "lost"
  | "removedAt"
  | "hearsLeader"
  | "membershipAt"
>;
