import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type AppendEntriesRequest,
  type AppendEntriesResponseSchema,
  type InstallSnapshotRequest,
  type InstallSnapshotResponseSchema,
  type RaftService,
  type SnapshotChunk,
  type SnapshotOffer,
  SnapshotRefusal,
} from "../../gen/cairn/v1/raft_pb.js";
import { limits } from "../core/limits.js";
import type { InstallSnapshotAnswer } from "../core/messages.js";
import { CairnError } from "../errors.js";
import { IncomingSnapshot, type OfferRefusal } from "../node/snapshot_inbox.js";
import { checkId } from "../storage/data_dir.js";
import type { ServiceImplementation } from "../transport/bridge_server.js";
import { orderedAnswers } from "../transport/ordered.js";
import { checkPeer, rejectionMessages, toEntry, toNumber } from "./convert.js";
import type { KeyValueNode } from "./key_value_node.js";

type AppendResponse = MessageInitShape<typeof AppendEntriesResponseSchema>;
type InstallResponse = MessageInitShape<typeof InstallSnapshotResponseSchema>;

/** The peer-to-peer service of a node. */
export function raftService(node: KeyValueNode): ServiceImplementation<typeof RaftService> {
  return {
    async requestVote(request) {
      const from = checkPeer(request.header, node);
      if (request.candidateId !== from) {
        const text = `candidate_id is ${JSON.stringify(request.candidateId)}, but header.sender_id ${JSON.stringify(from)}`;
        throw new CairnError("INVALID_ARGUMENT", text);
      }
      const answer = await node.requestVote({
        type: "request_vote",
        from,
        term: leaderTerm(request.term),
        last: {
          index: toNumber(request.lastLogIndex, "last_log_index"),
          term: toNumber(request.lastLogTerm, "last_log_term"),
        },
        preVote: request.preVote,
      });
      return { term: BigInt(answer.term), voteGranted: answer.granted };
    },

    async *appendEntries(requests) {
      let isFirst = true;
      const handle = (request: AppendEntriesRequest) => {
        if (isFirst) checkPeer(request.header, node);
        isFirst = false;
        return append(node, request);
      };
      yield* orderedAnswers(requests, handle, limits.appendsInFlight);
    },

    async *installSnapshot(requests) {
      let incoming: IncomingSnapshot | undefined;
      try {
        for await (const request of requests) {
          if (incoming === undefined) {
            const accepted = await node.inbox.accept(toOffer(request, node));
            if (!(accepted instanceof IncomingSnapshot)) {
              yield refused(accepted, node);
              return;
            }
            incoming = accepted;
            yield { message: { case: "accepted", value: { offset: BigInt(incoming.offset) } } };
            continue;
          }
          yield await take(incoming, toChunk(request), node);
          if (incoming.isWhole) return;
        }
        throw new CairnError("INVALID_ARGUMENT", incompleteText(incoming));
      } finally {
        await incoming?.abort();
      }
    },
  };
}

async function append(node: KeyValueNode, request: AppendEntriesRequest): Promise<AppendResponse> {
  checkId(request.leaderId, "leader_id");
  const message = {
    type: "append_entries",
    from: request.leaderId,
    term: leaderTerm(request.term),
    prev: {
      index: toNumber(request.prevLogIndex, "prev_log_index"),
      term: toNumber(request.prevLogTerm, "prev_log_term"),
    },
    entries: request.entries.map(toEntry),
    leaderCommit: toNumber(request.leaderCommit, "leader_commit"),
  } as const;
  const answer = await node.appendEntries(message);
  const { rejection } = answer;
  const common = { term: BigInt(answer.term), lastLogIndex: BigInt(answer.lastIndex), round: request.round };
  if (rejection === undefined) return { ...common, success: true, matchIndex: BigInt(answer.matchIndex ?? 0) };
  return {
    ...common,
    success: false,
    rejection: rejectionMessages[rejection.reason],
    conflictTerm: BigInt(rejection.conflictTerm),
    conflictIndex: BigInt(rejection.conflictIndex),
    detail: rejection.detail,
  };
}

/** A term that a peer acts in: above 0. */
function leaderTerm(value: bigint): number {
  if (value === 0n) throw new CairnError("INVALID_ARGUMENT", "term is missing: it must be above 0");
  return toNumber(value, "term");
}

function toOffer(request: InstallSnapshotRequest, node: KeyValueNode) {
  if (request.message.case !== "offer") {
    throw new CairnError("INVALID_ARGUMENT", "the first message of an InstallSnapshot stream must be an offer");
  }
  const offer: SnapshotOffer = request.message.value;
  return {
    from: checkPeer(offer.header, node),
    leaderTerm: leaderTerm(offer.term),
    index: toNumber(offer.index, "index"),
    term: toNumber(offer.snapshotTerm, "snapshot_term"),
    fileBytes: toNumber(offer.fileBytes, "file_bytes"),
    sha256: offer.sha256,
  };
}

/** @throws CairnError CORRUPT when the bytes are not what their checksum says */
function toChunk(request: InstallSnapshotRequest): SnapshotChunk {
  if (request.message.case !== "chunk") {
    throw new CairnError("INVALID_ARGUMENT", "after its offer, an InstallSnapshot stream must hold chunks only");
  }
  const chunk = request.message.value;
  const { byteLength } = chunk.data;
  if (byteLength === 0) throw new CairnError("INVALID_ARGUMENT", `the chunk at offset ${chunk.offset} is empty`);
  if (byteLength > limits.transferChunkBytes) {
    const text = `the chunk at offset ${chunk.offset} has ${byteLength} bytes; the limit transferChunkBytes is`;
    throw new CairnError("LIMIT_EXCEEDED", `${text} ${limits.transferChunkBytes}`);
  }
  const found = crc32(chunk.data);
  if (found !== chunk.crc32) {
    throw new CairnError("CORRUPT", `the chunk at offset ${chunk.offset} has CRC-32 ${found}, expected ${chunk.crc32}`);
  }
  return chunk;
}

async function take(incoming: IncomingSnapshot, chunk: SnapshotChunk, node: KeyValueNode): Promise<InstallResponse> {
  await incoming.write(leaderTerm(chunk.term), toNumber(chunk.offset, "offset"), chunk.data);
  if (!incoming.isWhole) {
    return { message: { case: "progress", value: { receivedBytes: BigInt(incoming.offset) } } };
  }
  return installed(await incoming.finish(), node);
}

function installed(answer: InstallSnapshotAnswer, node: KeyValueNode): InstallResponse {
  switch (answer.outcome) {
    case "installed":
    case "already_committed": {
      const value = {
        term: BigInt(answer.term),
        matchIndex: BigInt(answer.matchIndex),
        applied: answer.outcome === "installed",
      };
      return { message: { case: "installed", value } };
    }
    case "stale_term":
      return refused({ reason: "stale_term", detail: answer.detail }, node);
    case "safety":
      throw new CairnError("FAILED_PRECONDITION", answer.detail);
  }
}

const refusals: Readonly<Record<OfferRefusal["reason"], SnapshotRefusal>> = {
  stale_term: SnapshotRefusal.STALE_TERM,
  already_committed: SnapshotRefusal.ALREADY_COMMITTED,
  busy: SnapshotRefusal.BUSY,
  no_space: SnapshotRefusal.NO_SPACE,
};

function refused({ reason, detail }: OfferRefusal, { raft }: KeyValueNode): InstallResponse {
  const value = {
    reason: refusals[reason],
    detail,
    term: BigInt(raft.term),
    commitIndex: BigInt(raft.log.commit),
    lastLogIndex: BigInt(raft.log.last.index),
  };
  return { message: { case: "refused", value } };
}

function incompleteText(incoming: IncomingSnapshot | undefined): string {
  if (incoming === undefined) return "the InstallSnapshot stream ended without an offer";
  return `the stream ended after ${incoming.offset} of ${incoming.offer.fileBytes} bytes of the snapshot`;
}
