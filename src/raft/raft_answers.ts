import type { LogPosition } from "./types.js";

// The answers of Raft to its embedder.

/** The reason why a node refuses a proposal. */
export type ProposalRefusal = "not_leader" | "queue_full" | "transferring" | "log_exhausted";

/** The answer of `Raft.propose`. */
export type Proposal = { readonly accepted: LogPosition } | { readonly refused: ProposalRefusal };

/** The answer of `Raft.changeMembership`. */
export type ChangeProposal =
  | { readonly accepted: LogPosition }
  /** The committed membership already is as the change asks. */
  | { readonly unchanged: true }
  | { readonly refused: "not_leader" }
  /** The change is impossible. `isFinal`: waiting will not make it possible. */
  | { readonly impossible: string; readonly isFinal?: boolean };
