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
import { nameOf } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { membershipToMessage } from "../encoding/membership.js";
import type { AppendRejection, LogConflict } from "../raft/messages.js";
import { toCount, toIndex, toTerm } from "../rpc/message_counters.js";
import { orderedAnswers } from "../rpc/ordered.js";
import type { ServiceImplementation } from "../rpc/server.js";
import type { InstallChoice, InstallMessage, InstallOffer, InstallReply } from "./install/install_messages.js";
import { baseToMessage, introduceResponse, toIntroduction, toJoin } from "./introductions.js";
import { type AdmittedPeer, openAdmission, type PeerAdmission } from "./peer_admission.js";
import type { PeerEndpoint } from "./peer_endpoint.js";
import { checkPeer } from "./peer_header.js";
import { compressionMessage, refusalMessages, rejectionMessages, toCompression, toEntry } from "./protocol.js";

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
      return introduceResponse(await node.introduce(toIntroduction(request)));
    },

    async join(request, context) {
      admission.admit(context).assertIs(request.name, "name");
      const { signal } = context;
      const { index, members, base } = await node.join(toJoin(request, node.clusterId), signal);
      const membership = membershipToMessage(members);
      return { index: BigInt(index), membership, ...(base !== undefined && { base: baseToMessage(base) }) };
    },

    async requestVote(request, context) {
      const from = senderOf(request.header, node, admission.admit(context));
      const answer = await node.requestVote(judged(node, from, () => toVoteRequest(from, request)));
      return {
        term: BigInt(answer.term),
        voteGranted: answer.granted,
        lastLogIndex: BigInt(answer.lastIndex ?? 0),
        acknowledgedIndex: BigInt(answer.acknowledged ?? 0),
      };
    },

    async *appendEntries(requests, context) {
      const peer = admission.admit(context);
      let from: string | undefined;
      const handle = (request: AppendEntriesRequest) => {
        from ??= senderOf(request.header, node, peer);
        return append(node, from, request);
      };
      yield* orderedAnswers(requests, handle, limits.appendsInFlight);
    },

    async *installSnapshot(requests, context) {
      const messages = fromRequests(requests, node, admission.admit(context));
      for await (const reply of node.receiveSnapshot(messages)) yield toResponse(reply);
    },

    async timeoutNow(request, context) {
      const from = senderOf(request.header, node, admission.admit(context));
      const term = judged(node, from, () => leaderTerm(request.term));
      const answer = await node.timeoutNow({ type: "timeout_now", from, term });
      return { term: BigInt(answer.term) };
    },
  };
}

/**
 * Returns the member key of a message's sender, whose name must be the caller's own.
 * @throws CairnError as {@link checkPeer}; PERMISSION_DENIED
 */
function senderOf(header: PeerHeader | undefined, node: PeerEndpoint, caller: AdmittedPeer): string {
  const sender = checkPeer(header, node);
  caller.assertIs(nameOf(sender), "header.sender_id");
  return sender;
}

async function append(node: PeerEndpoint, from: string, request: AppendEntriesRequest): Promise<AppendResponse> {
  const answer = await node.appendEntries(judged(node, from, () => toAppend(from, request)));
  const common = { term: BigInt(answer.term), lastLogIndex: BigInt(answer.lastIndex), round: request.round };
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

function toVoteRequest(from: string, request: RequestVoteRequest) {
  if (request.candidateId !== nameOf(from)) throw anotherSender("candidate_id", request.candidateId, from);
  return {
    type: "request_vote",
    from,
    term: leaderTerm(request.term),
    last: {
      index: toIndex(request.lastLogIndex, "last_log_index"),
      term: toTerm(request.lastLogTerm, "last_log_term"),
    },
    preVote: request.preVote,
    leadershipTransfer: request.leadershipTransfer,
  } as const;
}

function toAppend(from: string, request: AppendEntriesRequest) {
  if (request.leaderId !== nameOf(from)) throw anotherSender("leader_id", request.leaderId, from);
  return {
    type: "append_entries",
    from,
    term: leaderTerm(request.term),
    prev: {
      index: toIndex(request.prevLogIndex, "prev_log_index"),
      term: toTerm(request.prevLogTerm, "prev_log_term"),
    },
    entries: request.entries.map(toEntry),
    leaderCommit: toIndex(request.leaderCommit, "leader_commit"),
    acknowledged: toIndex(request.acknowledgedIndex, "acknowledged_index"),
    isConditional: request.conditional,
  } as const;
}

/** Reads a peer's message, and tells the operator of one that no correct peer sends. */
function judged<Message>(node: PeerEndpoint, from: string, read: () => Message): Message {
  try {
    return read();
  } catch (error) {
    if (error instanceof CairnError) node.violated(nameOf(from), error.text);
    throw error;
  }
}

function anotherSender(field: string, named: string, from: string): CairnError {
  const text = `${field} is ${JSON.stringify(named)}, but header.sender_id ${JSON.stringify(nameOf(from))}`;
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
  caller: AdmittedPeer,
): AsyncGenerator<InstallMessage, void, undefined> {
  let from: string | undefined;
  for await (const { message } of requests) {
    if (message.case === "offer") {
      const sender = senderOf(message.value.header, node, caller);
      from = sender;
      yield { kind: "offer", ...judged(node, sender, () => toOffer(sender, message.value)) };
    } else if (message.case === "chunk") {
      yield {
        kind: "chunk",
        ...judged(node, from ?? "a member that has not said its name", () => toChunk(message.value)),
      };
    } else {
      throw new CairnError(
        "INVALID_ARGUMENT",
        "a message of an InstallSnapshot stream holds neither an offer nor a chunk",
      );
    }
  }
}

function toOffer(from: string, offer: SnapshotOffer): InstallOffer {
  return {
    from,
    leaderTerm: leaderTerm(offer.term),
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
    throw new CairnError("LIMIT_EXCEEDED", `${text} ${limits.transferChunkBytes}`);
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
