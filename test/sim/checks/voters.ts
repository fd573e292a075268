import { memberKey } from "../../../src/base/ids.js";
import type { Membership } from "../../../src/raft/types.js";

/** Keys of the members that vote. The checkers' own: what they check must not tell them. */
export function votersOf(members: Membership): string[] {
  return members.filter(({ role }) => role === "voter").map(memberKey);
}
