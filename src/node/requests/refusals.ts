import { isUint8Array } from "node:util/types";
import { invalid } from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import { isMemberKey } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import type { ProposalRefusal } from "../../raft/raft_answers.js";
import type { RaftView } from "../views.js";

/** The state that a node reports to callers when it refuses them. */
export type RefusingNode = Pick<RaftView, "leader" | "lost" | "removedAt" | "membership">;

/** Returns the error with which a node refuses a request. Nothing happened. */
export function refusal(reason: ProposalRefusal, id: string, node: RefusingNode): CairnError {
  if (reason === "queue_full") {
    const text = `too many writes are waiting to be committed: uncommittedBytes is ${limits.uncommittedBytes}. Try later.`;
    return overLimit("BUSY", "uncommittedBytes", text);
  }
  if (reason === "transferring") return new CairnError("BUSY", `node ${id} is handing leadership over. Try later.`);
  if (reason === "log_exhausted") {
    const text = `the log has reached the highest possible index: indexMax is ${limits.indexMax}. Restore a snapshot as a new cluster.`;
    return overLimit("LIMIT_EXCEEDED", "indexMax", text);
  }
  const text = `node ${id} is not the leader: ${leaderOf(id, node)}`;
  return new CairnError("NOT_LEADER", text, { leaderHint: node.leader });
}

function leaderOf(id: string, { leader, lost, removedAt, membership }: RefusingNode): string {
  if (leader !== undefined && leader !== id) return `the leader is ${leader}`;
  if (lost !== undefined) return "it has lost data that it acknowledged, and takes no part until it has come back";
  if (removedAt !== undefined) return `it was removed from the cluster at index ${removedAt}`;
  if (membership.members.length === 0) return "it is new, and waits for its cluster";
  return "no leader is known";
}

/** Returns the error for callers of a node that cannot write at present. */
export function outOfRoom(shortage: CairnError): CairnError {
  const what =
    shortage.code === "DISK_FULL"
      ? "the disk is full: free some space"
      : "too many files are open: raise the limit (ulimit -n)";
  return new CairnError(shortage.code, `${what}. Writes, and reads of what is not applied yet, resume by themselves`);
}

/**
 * Checks that the log can hold an entry with this data. The core must not get data that the log
 * would refuse, because the core cannot undo an append.
 * @throws CairnError LIMIT_EXCEEDED
 */
export function checkFitsEntry(data: Uint8Array, what: string): void {
  if (!isUint8Array(data)) throw invalid(what, "a Uint8Array", data);
  const { byteLength } = data;
  const { entryBytes, entryAllowanceBytes } = limits;
  if (byteLength <= entryBytes - entryAllowanceBytes) return;
  const text = `${what} has ${byteLength} bytes; the limit entryBytes is ${entryBytes}, of which ${entryAllowanceBytes} are set aside`;
  throw overLimit("LIMIT_EXCEEDED", "entryBytes", `${text} for the entry around it`);
}

/**
 * Checks the sender of a message.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkSender(from: string): void {
  if (!isMemberKey(from))
    throw new CairnError("INVALID_ARGUMENT", `sender ${JSON.stringify(from)} is not a member key`);
}
