import { memberKey } from "../../src/core/ids.js";
import type { Membership } from "../../src/core/types.js";

/** Keys of the members that vote. The checkers' own: what they check must not tell them. */
export function votersOf(members: Membership): string[] {
  return members.filter(({ role }) => role === "voter").map(memberKey);
}
