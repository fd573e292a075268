import { memberKey } from "../base/ids.js";
import type { Raft } from "../raft/raft.js";
import type { Ending } from "./ending.js";
import type { Turns } from "./turns.js";
import type { RaftView } from "./views.js";

/** The core of a node as the node's parts read it. */
export type CoreView = RaftView & Pick<Raft, "violations" | "strangers" | "faultOf" | "hasUntoldCommit">;

/** The view of a node that its parts use. */
export interface NodeHost {
  /** The node's name. */
  readonly id: string;
  /** Its member key (see ids.ts). */
  readonly key: string;
  /** For reading only; change it through {@link core}. */
  readonly raft: CoreView;
  /** The road of errors that end the node. */
  readonly ending: Ending;
  /** Runs a change on the core. The core throws only when it is broken, and that ends the node. */
  core<Result>(change: (raft: Raft) => Result): Result;
  /** Schedules a turn of the node's work. Call this after giving anything to the core. */
  wake(): void;
}

/** Returns a node's view of its core. Beside it only the Ready loop holds the core itself. */
export function hostOf(
  member: { readonly id: string; readonly incarnation: string },
  raft: Raft,
  ending: Ending,
  turns: Turns,
): NodeHost {
  return {
    id: member.id,
    key: memberKey(member),
    raft,
    ending,
    core: (change) => ending.guard(raft, change),
    wake: () => turns.wake(),
  };
}
