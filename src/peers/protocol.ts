import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  AppendEntriesRejection,
  type AppendEntriesResponse,
  type InstallSnapshotRequestSchema,
  type InstallSnapshotResponse,
  type PeerHeaderSchema,
  type RequestVoteRequestSchema,
  type RequestVoteResponse,
  SnapshotCompression as SnapshotCompressionMessage,
  SnapshotRefusal,
} from "../../gen/cairn/v1/raft_pb.js";
import { type Entry as EntryMessage, EntryType as EntryTypeMessage } from "../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../base/errors.js";
import { incarnationBytes, incarnationOf, nameOf } from "../base/ids.js";
import type { AppendRejection, PeerAppendAnswer, PeerRequest, PeerVoteAnswer } from "../raft/messages.js";
import type { Entry, EntryType } from "../raft/types.js";
import { toCount, toIndex, toTerm } from "../rpc/message_counters.js";
import type {
  InstallChoice,
  InstallMessage,
  InstallReply,
  OfferRefusal,
  SnapshotCompression,
} from "./install/install_messages.js";

// Translates the messages between peers: from the core's types to raft.proto, and back.

/**
 * Version of the protocol between peers. A member of version 1 applies commands by the first rules
 * for remembered answers, whatever they say, and would silently drift apart: so neither side
 * accepts the other's messages.
 */
export const PROTOCOL_VERSION = 2;

/** Begins the text of each refusal of another version, from the first version on. */
const OTHER_PROTOCOL = /\bprotocol_version is \d+, expected \d+/;

/**
 * Checks that a member speaks this node's version of the protocol. `field` is the one that says so.
 * @throws CairnError WRONG_CLUSTER
 */
export function checkProtocol(version: number, field = "protocol_version"): void {
  if (version === PROTOCOL_VERSION) return;
  const advice =
    "the two nodes run versions of Cairn that do not understand each other; docs/compatibility.md says which do";
  throw new CairnError("WRONG_CLUSTER", `${field} is ${version}, expected ${PROTOCOL_VERSION}: ${advice}`);
}

/** Returns whether a node refused another one because of its version of the protocol. */
export function isOtherProtocol({ code, text }: CairnError): boolean {
  return code === "WRONG_CLUSTER" && OTHER_PROTOCOL.test(text);
}

/** Names a node of a cluster to other nodes. */
export interface Self {
  /** Its member key (see ids.ts). */
  readonly id: string;
  readonly clusterId: string;
}

/** Returns the header of a message to a member, which is named by its key. */
export function headerTo(receiver: string, { id, clusterId }: Self): MessageInitShape<typeof PeerHeaderSchema> {
  return {
    protocolVersion: PROTOCOL_VERSION,
    clusterId,
    senderId: nameOf(id),
    senderIncarnation: incarnationBytes(incarnationOf(id)),
    receiverId: nameOf(receiver),
    receiverIncarnation: incarnationBytes(incarnationOf(receiver)),
  };
}

const entryTypes: Readonly<Record<EntryTypeMessage, EntryType | undefined>> = {
  [EntryTypeMessage.UNSPECIFIED]: undefined,
  [EntryTypeMessage.COMMAND]: "command",
  [EntryTypeMessage.NO_OP]: "no-op",
  [EntryTypeMessage.CONFIGURATION]: "configuration",
};

/**
 * Translates an entry.
 * @throws CairnError INVALID_ARGUMENT
 */
export function toEntry(message: EntryMessage): Entry {
  const type = entryTypes[message.type];
  if (type === undefined) {
    throw new CairnError("INVALID_ARGUMENT", `entry ${message.index} has the unknown type ${message.type}`);
  }
  return { index: toIndex(message.index, "index"), term: toTerm(message.term, "term"), type, data: message.data };
}

export const rejectionMessages: Readonly<Record<AppendRejection["reason"], AppendEntriesRejection>> = {
  stale_term: AppendEntriesRejection.STALE_TERM,
  log_mismatch: AppendEntriesRejection.LOG_MISMATCH,
  safety: AppendEntriesRejection.SAFETY,
  lost: AppendEntriesRejection.LOST,
  not_member: AppendEntriesRejection.NOT_MEMBER,
};

const rejections: Readonly<Record<AppendEntriesRejection, AppendRejection["reason"] | undefined>> = {
  [AppendEntriesRejection.UNSPECIFIED]: undefined,
  [AppendEntriesRejection.STALE_TERM]: "stale_term",
  [AppendEntriesRejection.LOG_MISMATCH]: "log_mismatch",
  [AppendEntriesRejection.SAFETY]: "safety",
  [AppendEntriesRejection.LOST]: "lost",
  [AppendEntriesRejection.NOT_MEMBER]: "not_member",
};

/**
 * Translates a peer's answer to an AppendEntries.
 * @throws CairnError INVALID_ARGUMENT for an answer that no correct peer gives
 */
export function toAppendAnswer(
  from: string,
  { term, round, prevIndex, acknowledged }: PeerAppendAnswer["request"],
  response: AppendEntriesResponse,
): PeerAppendAnswer {
  const answer = {
    type: "append_entries_answer",
    from,
    term: toTerm(response.term, "term"),
    lastIndex: toIndex(response.lastLogIndex, "last_log_index"),
    request: { term, round, prevIndex, acknowledged },
  } as const;
  if (response.success) {
    const matchIndex = toIndex(response.matchIndex, "match_index");
    const appliedIndex = toIndex(response.appliedIndex, "applied_index");
    return { ...answer, outcome: "accepted", matchIndex, ...(appliedIndex > 0 && { appliedIndex }) };
  }
  const reason = rejections[response.rejection];
  if (reason === undefined) {
    throw new CairnError("INVALID_ARGUMENT", `entries were refused for the unknown reason ${response.rejection}`);
  }
  const conflictTerm = toTerm(response.conflictTerm, "conflict_term");
  const conflictIndex = toIndex(response.conflictIndex, "conflict_index");
  const { detail } = response;
  // No entry has term 0: it says that the peer's log is shorter.
  const conflict = { conflictTerm: conflictTerm === 0 ? undefined : conflictTerm, conflictIndex };
  if (reason === "log_mismatch") return { ...answer, outcome: "rejected", rejection: { reason, detail, ...conflict } };
  // An index of 0 says that the entries contradict no committed one.
  const isContradiction = reason === "safety" && conflictIndex > 0;
  const rejection = isContradiction ? { reason, detail, contradicted: conflict } : { reason, detail };
  return { ...answer, outcome: "rejected", rejection };
}

type VoteRequest = PeerRequest & { type: "request_vote" };

export function voteRequest(request: VoteRequest, self: Self): MessageInitShape<typeof RequestVoteRequestSchema> {
  return {
    header: headerTo(request.to, self),
    term: BigInt(request.term),
    candidateId: nameOf(request.from),
    lastLogIndex: BigInt(request.last.index),
    lastLogTerm: BigInt(request.last.term),
    preVote: request.preVote,
    leadershipTransfer: request.leadershipTransfer,
    membershipIndex: BigInt(request.membershipIndex ?? 0),
  };
}

/**
 * Translates a peer's answer to a RequestVote.
 * @throws CairnError INVALID_ARGUMENT
 */
export function toVoteAnswer({ to, term, preVote }: VoteRequest, response: RequestVoteResponse): PeerVoteAnswer {
  return {
    type: "request_vote_answer",
    from: to,
    term: toTerm(response.term, "term"),
    granted: response.voteGranted,
    lastIndex: toIndex(response.lastLogIndex, "last_log_index"),
    acknowledged: toIndex(response.acknowledgedIndex, "acknowledged_index"),
    request: { term, preVote },
  };
}

export function offerRequest(
  message: InstallMessage & { kind: "offer" },
  to: string,
  self: Self,
): MessageInitShape<typeof InstallSnapshotRequestSchema> {
  const offer = {
    header: headerTo(to, self),
    term: BigInt(message.leaderTerm),
    leaderId: nameOf(message.from),
    membershipIndex: BigInt(message.membershipIndex ?? 0),
    ...choiceFields(message),
    compression: compressionMessage(message.compression),
    others: (message.others ?? []).map(choiceFields),
  };
  return { message: { case: "offer", value: offer } };
}

function choiceFields({ index, term, fileBytes, sha256 }: InstallChoice) {
  return { index: BigInt(index), snapshotTerm: BigInt(term), fileBytes: BigInt(fileBytes), sha256 };
}

export const refusalMessages: Readonly<Record<OfferRefusal["reason"], SnapshotRefusal>> = {
  stale_term: SnapshotRefusal.STALE_TERM,
  already_committed: SnapshotRefusal.ALREADY_COMMITTED,
  busy: SnapshotRefusal.BUSY,
  no_space: SnapshotRefusal.NO_SPACE,
  cancelled: SnapshotRefusal.CANCELLED,
};

const refusals: Readonly<Record<SnapshotRefusal, OfferRefusal["reason"] | undefined>> = {
  [SnapshotRefusal.UNSPECIFIED]: undefined,
  [SnapshotRefusal.STALE_TERM]: "stale_term",
  [SnapshotRefusal.ALREADY_COMMITTED]: "already_committed",
  [SnapshotRefusal.BUSY]: "busy",
  [SnapshotRefusal.NO_SPACE]: "no_space",
  [SnapshotRefusal.CANCELLED]: "cancelled",
};

export function compressionMessage(compression: SnapshotCompression | undefined): SnapshotCompressionMessage {
  return compression === "deflate" ? SnapshotCompressionMessage.DEFLATE : SnapshotCompressionMessage.UNSPECIFIED;
}

/** Translates a compression; undefined for one that this version does not know. */
export function toCompression(message: SnapshotCompressionMessage): SnapshotCompression | undefined {
  return message === SnapshotCompressionMessage.DEFLATE ? "deflate" : undefined;
}

/**
 * Translates a message of a snapshot's receiver.
 * @throws CairnError INVALID_ARGUMENT for a message that no correct receiver sends
 */
export function toInstallReply({ message }: InstallSnapshotResponse): InstallReply {
  switch (message.case) {
    case "accepted": {
      const offset = toCount(message.value.offset, "offset");
      const index = toIndex(message.value.index, "index");
      const compression = toCompression(message.value.compression);
      return { kind: "accepted", offset, ...(index !== 0 && { index }), ...(compression && { compression }) };
    }
    case "progress":
      return { kind: "progress", receivedBytes: toCount(message.value.receivedBytes, "received_bytes") };
    case "installed": {
      const { term, matchIndex, applied } = message.value;
      return {
        kind: "installed",
        term: toTerm(term, "term"),
        matchIndex: toIndex(matchIndex, "match_index"),
        applied,
      };
    }
    case "refused": {
      const { reason, detail, term, commitIndex, lastLogIndex } = message.value;
      const known = refusals[reason];
      if (known === undefined) throw new CairnError("INVALID_ARGUMENT", `the unknown refusal ${reason}: ${detail}`);
      return {
        kind: "refused",
        reason: known,
        detail,
        term: toTerm(term, "term"),
        commitIndex: toIndex(commitIndex, "commit_index"),
        lastLogIndex: toIndex(lastLogIndex, "last_log_index"),
      };
    }
    case undefined:
      throw new CairnError("INVALID_ARGUMENT", "an empty message of the receiver of a snapshot");
  }
}
