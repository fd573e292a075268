import { CairnError, type CairnErrorOptions } from "../base/errors.js";
import type { ServedNode } from "./served_node.js";

// Adds to errors what their callers need next: the leader's address, or a time to wait.

/**
 * Wait that a caller is advised to make when too much is waiting, in ms: about as long as a slow
 * disk takes to write the backlog.
 */
const RETRY_AFTER_MS = 50;

/**
 * Returns host:port of a member as its peers reach it; undefined when it is no member, or runs
 * alone.
 */
export function addressOf(node: Pick<ServedNode, "raft">, id: string | undefined): string | undefined {
  if (id === undefined) return undefined;
  const address = node.raft.membership.members.find((member) => member.id === id)?.address;
  return address === "" ? undefined : address;
}

/**
 * Returns an error with the help that its caller needs: the leader's address, or a time to wait.
 */
export function explained(error: unknown, node: Pick<ServedNode, "raft">): unknown {
  if (!(error instanceof CairnError)) return error;
  const help = helpOf(error, node);
  if (help === undefined) return error;
  const { code, text, cause, leaderHint, leaderAddress, retryAfterMs } = error;
  return new CairnError(code, text, { cause, leaderHint, leaderAddress, retryAfterMs, ...help });
}

function helpOf({ code, ...error }: CairnError, node: Pick<ServedNode, "raft">): CairnErrorOptions | undefined {
  if (code === "BUSY" && error.retryAfterMs === undefined) return { retryAfterMs: RETRY_AFTER_MS };
  if (code !== "NOT_LEADER" || error.leaderAddress !== undefined) return undefined;
  return { leaderAddress: addressOf(node, error.leaderHint) };
}
