import type { LostData } from "../raft/state.js";
import type { Membership } from "../raft/types.js";

/** An event of a member, for its user to report. */
export type MemberEvent =
  /** It listens. `clusterId`: empty while it is new and looks for its cluster. Reported once. */
  | { readonly kind: "listening"; readonly address: string; readonly clusterId: string }
  /**
   * Its directory's lock belongs to a process that cannot be seen from here, and it waits for a
   * sign of life. Reported again with the result.
   */
  | { readonly kind: "locked"; readonly text: string }
  /**
   * It is new and has to wait. Reported again from time to time while the reason persists. `ms`:
   * duration of the wait so far.
   */
  | { readonly kind: "waiting"; readonly reason: string; readonly ms: number }
  /** From now on it takes part in this cluster and in no other. */
  | { readonly kind: "turned"; readonly clusterId: string }
  /** All founders have promised, and it has written the first membership. */
  | { readonly kind: "founded"; readonly clusterId: string; readonly members: Membership }
  /** The leader has made it a member: in place of the one that had its name, or in addition. */
  | { readonly kind: "joined"; readonly clusterId: string; readonly address: string }
  /** It has been a learner since it arrived, and is a voter now. */
  | { readonly kind: "promoted"; readonly clusterId: string }
  /**
   * It has less than it acknowledged (T3): its data is set aside, and it returns as a new member.
   */
  | { readonly kind: "lost"; readonly lost: LostData; readonly aside: string }
  /** A membership without it is committed at `index`. */
  | { readonly kind: "removed"; readonly index: number };
