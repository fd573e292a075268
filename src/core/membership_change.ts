import type { Member, Membership } from "./types.js";

/**
 * A change of the membership: one member at a time, so that any majority before it and any after it share a member (thesis section 4.1).
 * New members come as learners, which do not count while they catch up (section 4.2.1).
 */
export type MembershipChange =
  | { readonly type: "add_learner"; readonly id: string; readonly address: string }
  | { readonly type: "promote"; readonly id: string }
  | { readonly type: "remove"; readonly id: string };

/** The membership after a change, or why there is none. `isCaughtUp`: whether a learner has nearly all of the log. */
export function changedMembership(
  members: Membership,
  change: MembershipChange,
  isCaughtUp: (id: string) => boolean,
): { readonly members: Membership } | { readonly impossible: string } {
  const member = members.find(({ id }) => id === change.id);
  switch (change.type) {
    case "add_learner": {
      if (member !== undefined) return { impossible: `${change.id} is a ${member.role} already` };
      const learner: Member = { id: change.id, address: change.address, role: "learner" };
      return { members: [...members, learner].sort((a, b) => (a.id < b.id ? -1 : 1)) };
    }
    case "promote":
      if (member === undefined) return { impossible: `${change.id} is not a member: add it as a learner first` };
      if (member.role === "voter") return { impossible: `${change.id} is a voter already` };
      if (!isCaughtUp(change.id)) {
        return { impossible: `${change.id} has not caught up with the log yet: try again when it has` };
      }
      return { members: members.map((each) => (each === member ? { ...each, role: "voter" } : each)) };
    case "remove": {
      if (member === undefined) return { impossible: `${change.id} is not a member` };
      const left = members.filter((each) => each !== member);
      if (left.some(({ role }) => role === "voter")) return { members: left };
      return { impossible: `${change.id} is the last voter` };
    }
  }
}
