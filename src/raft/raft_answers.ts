import type { ProposalRefusal } from "./leader/leader.js";
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
