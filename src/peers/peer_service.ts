import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  AppendEntriesRequest,
  AppendEntriesResponseSchema,
  InstallSnapshotRequest,
  InstallSnapshotResponseSchema,
  PeerHeader,
  RaftService,
  RequestVoteRequest,
  SnapshotChoice,
  SnapshotChunk,
  SnapshotOffer,
} from "../../gen/cairn/v1/raft_pb.js";
import { CairnError } from "../base/errors.js";
import { isId, nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { overLimit } from "../base/telemetry/refusals.js";
import { membershipToMessage } from "../encoding/membership.js";
import type { AppendRejection, LogConflict, MessageSender } from "../raft/messages.js";
import type { CallContext } from "../rpc/call_context.js";
import { toCount, toIndex, toTerm } from "../rpc/message_counters.js";
import { orderedAnswers } from "../rpc/ordered.js";
import type { ServiceImplementation } from "../rpc/server.js";
import type { InstallChoice, InstallMessage, InstallOffer, InstallReply } from "./install/install_messages.js";
import { baseToMessage, introduceResponse, toIntroduction, toJoin } from "./introductions.js";
import { type AdmittedPeer, openAdmission, type PeerAdmission } from "./peer_admission.js";
import type { PeerEndpoint } from "./peer_endpoint.js";
import { checkPeer, quoted } from "./peer_header.js";
import {
  compressionMessage,
  isOtherProtocol,
  refusalMessages,
  rejectionMessages,
  toCompression,
  toEntry,
} from "./protocol.js";

type AppendResponse = MessageInitShape<typeof AppendEntriesResponseSchema>;
type InstallResponse = MessageInitShape<typeof InstallSnapshotResponseSchema>;

/** Serves the protocol between peers to the nodes that `admission` admits. */
export function raftService(
  node: PeerEndpoint,
  admission: PeerAdmission = openAdmission,
): ServiceImplementation<typeof RaftService> {
  return {
    async introduce(request, context) {
      admission.admit(context).assertIs(request.name, "name");
      const asked = orStranger(node, request.name, context, () => toIntroduction(request));
      return introduceResponse(await node.introduce(asked));
    },

    async join(request, context) {
      admission.admit(context).assertIs(request.name, "name");
      const change = orStranger(node, request.name, context, () => toJoin(request, node.clusterId));
      const { index, members, base } = await node.join(change, context.signal);
      const membership = membershipToMessage(members);
      return { index: BigInt(index), membership, ...(base !== undefined && { base: baseToMessage(base) }) };
    },

    async requestVote(request, context) {
      const sender = senderOf(request.header, node, context, admission.admit(context));
      const answer = await node.requestVote(judged(node, sender, () => toVoteRequest(sender, request)));
      return {
        term: BigInt(answer.term),
        voteGranted: answer.granted,
        lastLogIndex: BigInt(answer.lastIndex ?? 0),
        acknowledgedIndex: BigInt(answer.acknowledged ?? 0),
      };
    },

    async *appendEntries(requests, context) {
      const peer = admission.admit(context);
      let sender: MessageSender | undefined;
      const handle = (request: AppendEntriesRequest) => {
        sender ??= senderOf(request.header, node, context, peer);
        return append(node, sender, request);
      };
      yield* orderedAnswers(requests, handle, limits.appendsInFlight);
    },

    async *installSnapshot(requests, context) {
      const messages = fromRequests(requests, node, context, admission.admit(context));
      for await (const reply of node.receiveSnapshot(messages)) yield toResponse(reply);
    },

    async timeoutNow(request, context) {
      const sender = senderOf(request.header, node, context, admission.admit(context));
      const term = judged(node, sender, () => leaderTerm(request.term));
      const answer = await node.timeoutNow({ type: "timeout_now", ...sender, term });
      return { term: BigInt(answer.term) };
    },
  };
}

/**
 * Returns the sender that a header names, which must be the caller itself.
 * @throws CairnError as {@link checkPeer}; PERMISSION_DENIED
 */
function senderOf(
  header: PeerHeader | undefined,
  node: PeerEndpoint,
  context: CallContext,
  caller: AdmittedPeer,
): MessageSender {
  const from = orStranger(node, header?.senderId ?? "", context, () => checkPeer(header, node));
  caller.assertIs(nameOf(from), "header.sender_id");
  return { from, address: context.peer };
}

/** Reads the names in a message, and tells the operator of one for another cluster or node. */
function orStranger<Read>(node: PeerEndpoint, named: string, { peer: address }: CallContext, read: () => Read): Read {
  try {
    return read();
  } catch (error) {
    // While a node belongs to no cluster, members that know it from before may call it in vain.
    if (node.clusterId !== "") {
      const sender = { from: isId(named) ? named : "a sender without a valid name", address };
      const refusal = CairnError.from(error);
      if (isOtherProtocol(refusal)) node.otherProtocol(sender, refusal.text);
      else node.strange(sender, refusal.text);
    }
    throw error;
  }
}

async function append(
  node: PeerEndpoint,
  sender: MessageSender,
  request: AppendEntriesRequest,
): Promise<AppendResponse> {
  const answer = await node.appendEntries(judged(node, sender, () => toAppend(sender, request)));
  const { newestRules } = node;
  const common = {
    term: BigInt(answer.term),
    lastLogIndex: BigInt(answer.lastIndex),
    round: request.round,
    newestRules,
  };
  if (answer.outcome === "accepted") {
    const { matchIndex } = answer;
    const accepted = { ...common, success: true, matchIndex: BigInt(matchIndex) };
    if (!request.awaitApplied) return accepted;
    const committed = Math.min(toIndex(request.leaderCommit, "leader_commit"), matchIndex);
    return { ...accepted, appliedIndex: BigInt(await node.tryApplied(committed)) };
  }
  const { rejection } = answer;
  const { detail } = rejection;
  const rejected = { ...common, success: false, rejection: rejectionMessages[rejection.reason], detail };
  const conflict = conflictOf(rejection);
  if (conflict === undefined) return rejected;
  const { conflictTerm = 0, conflictIndex } = conflict;
  return { ...rejected, conflictTerm: BigInt(conflictTerm), conflictIndex: BigInt(conflictIndex) };
}

function conflictOf(rejection: AppendRejection): LogConflict | undefined {
  if (rejection.reason === "log_mismatch") return rejection;
  return rejection.reason === "safety" ? rejection.contradicted : undefined;
}

function toVoteRequest(sender: MessageSender, request: RequestVoteRequest) {
  const { from } = sender;
  if (request.candidateId !== nameOf(from)) throw anotherSender("candidate_id", request.candidateId, from);
  return {
    type: "request_vote",
    ...sender,
    term: leaderTerm(request.term),
    last: {
      index: toIndex(request.lastLogIndex, "last_log_index"),
      term: toTerm(request.lastLogTerm, "last_log_term"),
    },
    preVote: request.preVote,
    leadershipTransfer: request.leadershipTransfer,
    membershipIndex: toIndex(request.membershipIndex, "membership_index"),
  } as const;
}

function toAppend(sender: MessageSender, request: AppendEntriesRequest) {
  const { from } = sender;
  if (request.leaderId !== nameOf(from)) throw anotherSender("leader_id", request.leaderId, from);
  return {
    type: "append_entries",
    ...sender,
    term: leaderTerm(request.term),
    prev: {
      index: toIndex(request.prevLogIndex, "prev_log_index"),
      term: toTerm(request.prevLogTerm, "prev_log_term"),
    },
    entries: request.entries.map(toEntry),
    leaderCommit: toIndex(request.leaderCommit, "leader_commit"),
    acknowledged: toIndex(request.acknowledgedIndex, "acknowledged_index"),
    isConditional: request.conditional,
    membershipIndex: toIndex(request.membershipIndex, "membership_index"),
  } as const;
}

/** Reads a peer's message, and tells the operator of one that no correct peer sends. */
function judged<Message>(node: PeerEndpoint, sender: MessageSender, read: () => Message): Message {
  try {
    return read();
  } catch (error) {
    if (error instanceof CairnError) node.violated(sender, error.text);
    throw error;
  }
}

function anotherSender(field: string, named: string, from: string): CairnError {
  const text = `${field} is ${quoted(named)}, but header.sender_id ${quoted(nameOf(from))}`;
  return new CairnError("INVALID_ARGUMENT", text);
}

/** Translates the term of a sender, which must be above 0. */
function leaderTerm(value: bigint): number {
  if (value === 0n) throw new CairnError("INVALID_ARGUMENT", "term is missing: it must be above 0");
  return toTerm(value, "term");
}

async function* fromRequests(
  requests: AsyncIterable<InstallSnapshotRequest>,
  node: PeerEndpoint,
  context: CallContext,
  caller: AdmittedPeer,
): AsyncGenerator<InstallMessage, void, undefined> {
  let sender: MessageSender = { from: "a member that has not said its name", address: context.peer };
  for await (const { message } of requests) {
    if (message.case === "offer") {
      const offerer = senderOf(message.value.header, node, context, caller);
      sender = offerer;
      yield { kind: "offer", ...judged(node, sender, () => toOffer(offerer, message.value)) };
    } else if (message.case === "chunk") {
      yield { kind: "chunk", ...judged(node, sender, () => toChunk(message.value)) };
    } else {
      throw new CairnError(
        "INVALID_ARGUMENT",
        "a message of an InstallSnapshot stream holds neither an offer nor a chunk",
      );
    }
  }
}

function toOffer(sender: MessageSender, offer: SnapshotOffer): InstallOffer {
  return {
    ...sender,
    leaderTerm: leaderTerm(offer.term),
    membershipIndex: toIndex(offer.membershipIndex, "membership_index"),
    ...toChoice(offer),
    others: offer.others.map(toChoice),
    compression: toCompression(offer.compression),
  };
}

function toChoice(choice: SnapshotOffer | SnapshotChoice): InstallChoice {
  return {
    index: toIndex(choice.index, "index"),
    term: toTerm(choice.snapshotTerm, "snapshot_term"),
    fileBytes: toCount(choice.fileBytes, "file_bytes"),
    sha256: choice.sha256,
  };
}

/**
 * Translates a chunk, and checks its bytes.
 * @throws CairnError CORRUPT when the bytes do not match their checksum
 */
function toChunk(chunk: SnapshotChunk) {
  const { byteLength } = chunk.data;
  if (byteLength === 0) throw new CairnError("INVALID_ARGUMENT", `the chunk at offset ${chunk.offset} is empty`);
  if (Math.max(byteLength, chunk.fileBytes) > limits.transferChunkBytes) {
    const bytes = Math.max(byteLength, chunk.fileBytes);
    const text = `the chunk at offset ${chunk.offset} has ${bytes} bytes; the limit transferChunkBytes is`;
    throw overLimit("LIMIT_EXCEEDED", "transferChunkBytes", `${text} ${limits.transferChunkBytes}`);
  }
  const found = crc32(chunk.data);
  if (found !== chunk.crc32) {
    throw new CairnError("CORRUPT", `the chunk at offset ${chunk.offset} has CRC-32 ${found}, expected ${chunk.crc32}`);
  }
  const offset = toCount(chunk.offset, "offset");
  return { leaderTerm: leaderTerm(chunk.term), offset, data: chunk.data, fileBytes: chunk.fileBytes || undefined };
}

function toResponse(reply: InstallReply): InstallResponse {
  switch (reply.kind) {
    case "accepted": {
      const { offset, index = 0, compression } = reply;
      const value = { offset: BigInt(offset), index: BigInt(index), compression: compressionMessage(compression) };
      return { message: { case: "accepted", value } };
    }
    case "progress":
      return { message: { case: "progress", value: { receivedBytes: BigInt(reply.receivedBytes) } } };
    case "refused":
      return { message: { case: "refused", value: toRefused(reply) } };
    case "installed": {
      const { term, matchIndex, applied } = reply;
      return { message: { case: "installed", value: { term: BigInt(term), matchIndex: BigInt(matchIndex), applied } } };
    }
  }
}

function toRefused({ reason, detail, term, commitIndex, lastLogIndex }: InstallReply & { kind: "refused" }) {
  return {
    reason: refusalMessages[reason],
    detail,
    term: BigInt(term),
    commitIndex: BigInt(commitIndex),
    lastLogIndex: BigInt(lastLogIndex),
  };
}
