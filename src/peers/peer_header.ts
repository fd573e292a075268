import type { PeerHeader } from "../../gen/cairn/v1/raft_pb.js";
import { checkId } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import { incarnationText, isIncarnation, memberKey } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { misdirected } from "../raft/membership/recipient.js";
import { checkProtocol } from "./protocol.js";

/**
 * Checks that a peer's message is meant for this node.
 * @returns the sender's member key
 * @throws CairnError INVALID_ARGUMENT when there is no header, WRONG_CLUSTER when it names another
 * protocol, cluster, node or incarnation
 */
export function checkPeer(
  header: PeerHeader | undefined,
  node: { readonly id: string; readonly incarnation: string; readonly clusterId: string },
): string {
  if (header === undefined)
    throw new CairnError("INVALID_ARGUMENT", "header is missing: it is required in this message");
  const mismatch = (what: string, expected: string | number, got: string | number) =>
    new CairnError("WRONG_CLUSTER", `header.${what} is ${quoted(got)}, expected ${quoted(expected)}`);
  checkProtocol(header.protocolVersion, "header.protocol_version");
  const incarnation = incarnationText(header.receiverIncarnation);
  const wrong = misdirected({ clusterId: header.clusterId, id: header.receiverId, incarnation }, node);
  if (wrong !== undefined) {
    if ("isNew" in wrong) {
      throw new CairnError("WRONG_CLUSTER", `node ${node.id} is new, and belongs to no cluster yet`);
    }
    throw mismatch(wrong.what, wrong.expected, wrong.got);
  }
  const sender = { id: header.senderId, incarnation: incarnationText(header.senderIncarnation) };
  checkId(sender.id, "header.sender_id");
  if (!isIncarnation(sender.incarnation)) {
    throw new CairnError("INVALID_ARGUMENT", "header.sender_incarnation must have 16 bytes, or none");
  }
  return memberKey(sender);
}

/** Quotes a value from outside for an error: of one too long for a name, the first characters. */
export function quoted(value: string | number): string {
  return JSON.stringify(typeof value === "string" ? value.slice(0, 2 * limits.idCharacters) : value);
}
