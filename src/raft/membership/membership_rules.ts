import { counterProblem } from "../../base/counters.js";
import { idProblem, isId, isIncarnation, memberKey } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import type { Member, Membership, SnapshotMeta } from "../types.js";

// The one validator of memberships (T5), from any source: a flag, a peer's entry, a snapshot's
// header, a file of this node.

/**
 * Describes why no cluster has these members; undefined when one can. They must be ordered by id.
 */
export function membersProblem(members: Membership): string | undefined {
  if (members.length > limits.members) {
    return `there are ${members.length} members; the limit members is ${limits.members}`;
  }
  let previous: string | undefined;
  for (const { id, address, incarnation = "" } of members) {
    if (!isId(id)) return idProblem("member id", id);
    if (!isIncarnation(incarnation)) return `the incarnation of ${id} must be 16 bytes, or none`;
    if (id === previous) return `member ${id} is listed twice`;
    // Order is part of the encoding: equal memberships have equal bytes.
    if (previous !== undefined && id < previous) return `member ${id} comes after ${previous}: expected ascending ids`;
    if (address.length > limits.addressCharacters) {
      return `the address of ${id} has ${address.length} characters; the limit addressCharacters is ${limits.addressCharacters}`;
    }
    previous = id;
  }
  if (members.some(({ role }) => role === "voter")) return undefined;
  return "the members have no voter among them: at least one is needed";
}

/** Describes why no snapshot can have this metadata; undefined when one can. */
export function snapshotProblem({ index, term, membership }: SnapshotMeta): string | undefined {
  const wrongIndex = counterProblem(index, "indexMax", 1);
  if (wrongIndex !== undefined) return `index ${wrongIndex}`;
  const wrongTerm = counterProblem(term, "termMax", 1);
  if (wrongTerm !== undefined) return `term ${wrongTerm}`;
  const wrongPlace = counterProblem(membership.index, "indexMax");
  if (wrongPlace !== undefined) return `membership index ${wrongPlace}`;
  if (membership.index > index) {
    return `membership index ${membership.index}, expected 0 to the snapshot's index ${index}`;
  }
  // T1: a cluster has no members before it is founded, and the snapshot that it is founded from
  // records that.
  if (membership.index === 0 && membership.members.length === 0) return undefined;
  return membersProblem(membership.members);
}

/**
 * Describes why no correct leader replaces `before` by `after`; undefined when one may. A leader
 * changes one member at a time, so that any majority before a change and any majority after it
 * share a member (thesis section 4.1): it adds one, removes one, or changes one member's role,
 * address or incarnation. An empty `before` means that this node does not know the members; then
 * only `after` is judged.
 */
export function changeProblem(before: Membership, after: Membership): string | undefined {
  const problem = membersProblem(after);
  if (problem !== undefined || before.length === 0) return problem;
  const old = new Map(before.map((member) => [member.id, member]));
  const changed = after.filter((member) => !isSame(old.get(member.id), member)).map(({ id }) => id);
  const left = new Set(after.map(({ id }) => id));
  const removed = before.filter(({ id }) => !left.has(id)).map(({ id }) => id);
  const touched = [...changed, ...removed];
  if (touched.length <= 1) return undefined;
  const shown = touched.slice(0, 5).join(", ");
  return `it changes ${touched.length} members at once (${shown}), and a leader changes one at a time`;
}

/** Whether two members are equal in every field. */
function isSame(one: Member | undefined, other: Member): boolean {
  return (
    one !== undefined &&
    memberKey(one) === memberKey(other) &&
    one.address === other.address &&
    one.role === other.role &&
    (one.wantsVote ?? false) === (other.wantsVote ?? false)
  );
}
