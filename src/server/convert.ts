import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SnapshotInfoSchema } from "../../gen/cairn/v1/admin_pb.js";
import { AppendEntriesRejection, type PeerHeader } from "../../gen/cairn/v1/raft_pb.js";
import { type Entry as EntryMessage, EntryType as EntryTypeMessage } from "../../gen/cairn/v1/storage_pb.js";
import type { AppendRejection } from "../core/messages.js";
import type { Entry, EntryType } from "../core/types.js";
import { CairnError } from "../errors.js";
import { checkId } from "../storage/data_dir.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";

/** Version of the protocol between peers. */
export const PROTOCOL_VERSION = 1;

/** A whole number of a message as one that can be counted with. @throws CairnError INVALID_ARGUMENT above 2^53 - 1 */
export function toNumber(value: bigint, field: string): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw new CairnError("INVALID_ARGUMENT", `${field} is ${value}, above 2^53 - 1`);
}

const entryTypes: Readonly<Record<EntryTypeMessage, EntryType | undefined>> = {
  [EntryTypeMessage.UNSPECIFIED]: undefined,
  [EntryTypeMessage.COMMAND]: "command",
  [EntryTypeMessage.NO_OP]: "no-op",
  [EntryTypeMessage.CONFIGURATION]: "configuration",
};

/** @throws CairnError INVALID_ARGUMENT */
export function toEntry(message: EntryMessage): Entry {
  const type = entryTypes[message.type];
  if (type === undefined) {
    throw new CairnError("INVALID_ARGUMENT", `entry ${message.index} has the unknown type ${message.type}`);
  }
  return { index: toNumber(message.index, "index"), term: toNumber(message.term, "term"), type, data: message.data };
}

export const rejectionMessages: Readonly<Record<AppendRejection, AppendEntriesRejection>> = {
  stale_term: AppendEntriesRejection.STALE_TERM,
  log_mismatch: AppendEntriesRejection.LOG_MISMATCH,
  safety: AppendEntriesRejection.SAFETY,
};

export function snapshotInfoToMessage(info: SnapshotInfo): MessageInitShape<typeof SnapshotInfoSchema> {
  return {
    index: BigInt(info.index),
    term: BigInt(info.term),
    payloadBytes: BigInt(info.payloadBytes),
    fileBytes: BigInt(info.fileBytes),
    sha256: info.sha256,
  };
}

/**
 * Checks that a peer's message is meant for this node.
 * @returns the sender
 * @throws CairnError INVALID_ARGUMENT when there is no header, WRONG_CLUSTER when it names another protocol, cluster or node
 */
export function checkPeer(header: PeerHeader | undefined, node: { id: string; clusterId: string }): string {
  if (header === undefined)
    throw new CairnError("INVALID_ARGUMENT", "header is missing: it is required in this message");
  const mismatch = (what: string, expected: string | number, got: string | number) =>
    new CairnError("WRONG_CLUSTER", `header.${what} is ${JSON.stringify(got)}, expected ${JSON.stringify(expected)}`);
  if (header.protocolVersion !== PROTOCOL_VERSION) {
    throw mismatch("protocol_version", PROTOCOL_VERSION, header.protocolVersion);
  }
  if (header.clusterId !== node.clusterId) throw mismatch("cluster_id", node.clusterId, header.clusterId);
  if (header.receiverId !== node.id) throw mismatch("receiver_id", node.id, header.receiverId);
  checkId(header.senderId, "header.sender_id");
  return header.senderId;
}
