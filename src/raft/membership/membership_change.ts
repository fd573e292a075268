import { memberKey } from "../../base/ids.js";
import type { Member, Membership } from "../types.js";

// Changes of the membership: one member at a time, new members as learners first.

/**
 * The flag that brought a new member to its cluster: `--cluster` named it, or `--join` told it to
 * join.
 */
export type CameBy = "cluster" | "join";

/**
 * A change of the membership: one member at a time, so that any majority before it and any majority
 * after it share a member (thesis section 4.1). New members join as learners, which do not count
 * while they catch up (section 4.2.1).
 */
export type MembershipChange =
  | { readonly type: "add_learner"; readonly id: string; readonly address: string }
  | { readonly type: "promote"; readonly id: string }
  | { readonly type: "remove"; readonly id: string }
  | {
      /** A directory joins the cluster, or replaces the lost one that had its name (T1, T4). */
      readonly type: "join";
      readonly id: string;
      readonly incarnation: string;
      readonly address: string;
      readonly cameBy: CameBy;
    };

/** The leader's knowledge of its members, as far as it decides a change. */
export interface MemberFacts {
  /** Whether a learner has nearly all of the log. */
  isCaughtUp(key: string): boolean;
  /**
   * Whether a member has answered within an election timeout. The leader itself counts as having
   * answered.
   */
  answers(key: string): boolean;
}

/** The result of a change. `unchanged`: the membership already is as the change asks. */
export type ChangedMembership =
  | { readonly members: Membership }
  | { readonly unchanged: true }
  /** The change is impossible. `isFinal`: waiting will not make it possible. */
  | { readonly impossible: string; readonly isFinal?: boolean };

/** Returns the membership after a change, or the reason why the change is impossible. */
export function changedMembership(
  members: Membership,
  change: MembershipChange,
  facts: MemberFacts,
): ChangedMembership {
  const member = members.find(({ id }) => id === change.id);
  switch (change.type) {
    case "add_learner": {
      if (member !== undefined) return { impossible: `${change.id} is a ${member.role} already` };
      return { members: added(members, { id: change.id, address: change.address, role: "learner" }) };
    }
    case "promote":
      if (member === undefined) return { impossible: `${change.id} is not a member: add it as a learner first` };
      if (member.role === "voter") return { impossible: `${change.id} is a voter already` };
      if (!facts.isCaughtUp(memberKey(member))) {
        return { impossible: `${change.id} has not caught up with the log yet: try again when it has` };
      }
      return { members: promoted(members, member) };
    case "remove": {
      if (member === undefined) return { impossible: `${change.id} is not a member` };
      const left = members.filter((each) => each !== member);
      if (hasVoter(left)) return { members: left };
      return { impossible: `${change.id} is the last voter` };
    }
    case "join":
      return joined(members, member, change, facts);
  }
}

/** Returns the membership in which the learner is a voter, and so no longer wants a vote. */
export function promoted(members: Membership, learner: Member): Membership {
  const { wantsVote: _, ...rest } = learner;
  return members.map((each) => (each === learner ? { ...rest, role: "voter" } : each));
}

/**
 * Lets a directory join. If another directory has its name, the new one replaces it in one entry,
 * as a learner, once the former no longer answers (T1). The leader promotes the learner again if
 * the former was a voter or was to become one (T4). The membership records that, and not a disk
 * that may be lost a second time.
 */
function joined(
  members: Membership,
  former: Member | undefined,
  { id, incarnation, address, cameBy }: MembershipChange & { type: "join" },
  facts: MemberFacts,
): ChangedMembership {
  const learner: Member = { id, address, role: "learner", incarnation };
  if (former === undefined) {
    if (cameBy === "join") return { members: added(members, learner) };
    return {
      impossible: `${id} is not a member of this cluster: it was removed, or never was one. To add it, start it with join (--join on the command line)`,
      isFinal: true,
    };
  }
  if (memberKey(former) === memberKey(learner)) {
    return former.address === address ? { unchanged: true } : { members: moved(members, former, address) };
  }
  if (facts.answers(memberKey(former))) {
    return {
      impossible: `another node runs under the name ${id}, at ${former.address}, and answers: stop it, or give this one another id`,
    };
  }
  const left = members.filter((each) => each !== former);
  if (!hasVoter(left)) return { impossible: `${id} is the last voter` };
  const wantsVote = former.role === "voter" || former.wantsVote === true;
  return { members: added(left, wantsVote ? { ...learner, wantsVote } : learner) };
}

function added(members: Membership, member: Member): Membership {
  return [...members, member].sort((a, b) => (a.id < b.id ? -1 : 1));
}

function moved(members: Membership, member: Member, address: string): Membership {
  return members.map((each) => (each === member ? { ...each, address } : each));
}

function hasVoter(members: Membership): boolean {
  return members.some(({ role }) => role === "voter");
}
