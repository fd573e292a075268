import type { ProposalRefusal } from "./leader.js";
import type { Progress } from "./progress.js";
import type { LostData } from "./state.js";
import type { LogPosition } from "./types.js";

// The answers of Raft to whoever embeds it.

/** What `Raft.propose` answers. */
export type Proposal = { readonly accepted: LogPosition } | { readonly refused: ProposalRefusal };

/** What `Raft.changeMembership` answers. */
export type ChangeProposal =
  | { readonly accepted: LogPosition }
  /** The committed membership is as the change asks for already. */
  | { readonly unchanged: true }
  | { readonly refused: "not_leader" }
  /** `isFinal`: it will not become possible by waiting. */
  | { readonly impossible: string; readonly isFinal?: boolean };

/** One member as its leader sees it. */
export type ProgressInfo = Pick<Progress, "match" | "next"> & {
  /** Its name. */
  readonly id: string;
  /** Its member key. */
  readonly key: string;
  /** It has less than it acknowledged (T3). */
  readonly lost?: LostData;
  readonly state: Progress["state"]["kind"];
  /** Whether it has answered within the last election timeout, or a little longer. */
  readonly isActive: boolean;
};
