import { createHash } from "node:crypto";
import type { Membership } from "../../raft/types.js";

/** Returns the members in the form that --cluster takes: n1=host:port. */
export function memberList(members: Membership): string[] {
  return members.map(({ id, address }) => `${id}=${address}`);
}

/**
 * Returns a cluster id that is the same for the same parts, and different for others: nodes of two
 * clusters must not talk to each other.
 */
export function derivedClusterId(prefix: string, parts: readonly string[]): string {
  return `${prefix}-${createHash("sha256").update(parts.join(",")).digest("hex").slice(0, 16)}`;
}
