import type { LostData } from "../raft/state.js";
import type { Membership } from "../raft/types.js";

/** What comes to pass around a member's node, for whoever runs it to tell. */
export type MemberEvent =
  /** It listens. `clusterId`: empty while it is new, and looks for its cluster. Told once. */
  | { readonly kind: "listening"; readonly address: string; readonly clusterId: string }
  /**
   * Its directory's lock is of a process that cannot be seen from here: it waits for a sign of
   * life. Told again with what came of it.
   */
  | { readonly kind: "locked"; readonly text: string }
  /**
   * It is new and cannot go on. Told again now and then while the reason stands. `ms`: for how
   * long.
   */
  | { readonly kind: "waiting"; readonly reason: string; readonly ms: number }
  /** It takes part in this cluster from now on, and in no other. */
  | { readonly kind: "turned"; readonly clusterId: string }
  /** All founders have promised, and it has written the first membership. */
  | { readonly kind: "founded"; readonly clusterId: string; readonly members: Membership }
  /**
   * The leader has made it a member: in place of the one that had its name, or as a further one.
   */
  | { readonly kind: "joined"; readonly clusterId: string; readonly address: string }
  /** It has been a learner since it arrived, and votes now. */
  | { readonly kind: "promoted"; readonly clusterId: string }
  /**
   * It has less than it acknowledged (T3): its data is set aside, and it comes back as a new
   * member.
   */
  | { readonly kind: "lost"; readonly lost: LostData; readonly aside: string }
  /** A membership is committed at `index` that leaves it out. */
  | { readonly kind: "removed"; readonly index: number };
