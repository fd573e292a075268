import { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { membershipFromMessage } from "../encoding/membership.js";
import { encodeSnapshot, measureSnapshot } from "../encoding/snapshot_encoder.js";
import { encodePairsPayload } from "../machine/kv/payload.js";
import { type InstallChunk, InstallConversation } from "../peers/install/conversation.js";
import type { InstallReply } from "../peers/install/install_messages.js";
import { GrpcInstallStream } from "../peers/install/install_stream.js";
import type { InstallStream } from "../peers/transport.js";
import type { LogPosition, SnapshotMeta } from "../raft/types.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import type { GatewayNode } from "./nodes.js";
import { namesOf } from "./remote_leader.js";
import { within } from "./within.js";

/** A key and its value, in the encoding of the store. */
export interface Pair {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

type Status = Awaited<ReturnType<GatewayNode["admin"]["getStatus"]>>;

/**
 * Sends a state to a node as a snapshot, as a leader does. Returns whether the node has installed
 * it: it has not when it had committed that index already.
 * @throws GatewayError 22 when the node refuses it for another reason, 11 when it may take it later
 */
export async function installState(
  node: GatewayNode,
  position: LogPosition,
  pairs: readonly Pair[],
  timeoutMs: number,
): Promise<boolean> {
  const status = await node.admin.getStatus({}, { timeoutMs });
  const { to, self } = namesOf(status);
  const header = {
    clusterId: status.clusterId,
    meta: metaOf(position, status),
    chunkBytes: limits.snapshotChunkBytes,
  };
  const file = () => encodeSnapshot(header, asynchronously(encodePairsPayload(pairs, position)));
  const { fileBytes, sha256 } = await measureSnapshot(header, asynchronously(encodePairsPayload(pairs, position)));
  const leaderTerm = termFor(position, status);
  const stream = new GrpcInstallStream({ id: to, address: node.address }, self, node.channelSettings ?? {}, () => {});
  try {
    const conversation = new InstallConversation(answeredInTime(stream, node.id, timeoutMs), () => {});
    const { index, term } = position;
    const reply = await conversation.offer({ from: self.id, leaderTerm, index, term, fileBytes, sha256 });
    if (reply.kind === "refused" && reply.reason === "already_committed") return false;
    if (reply.kind === "refused") throw refusal(reply);
    const end = await conversation.sendChunks(() => chunksFrom(reply.offset, leaderTerm, file()));
    if (end.kind === "refused") throw refusal(end);
    return end.applied;
  } finally {
    stream.cancel();
  }
}

/** Yields a file from the offset that the node chooses: it may have the first part already. */
async function* chunksFrom(
  from: number,
  leaderTerm: number,
  file: AsyncIterable<Uint8Array>,
): AsyncGenerator<InstallChunk> {
  let end = 0;
  for await (const piece of file) {
    const data = piece.subarray(Math.min(Math.max(from - end, 0), piece.byteLength));
    end += piece.byteLength;
    if (data.byteLength > 0) yield { kind: "chunk", leaderTerm, offset: end - data.byteLength, data };
  }
}

/** Returns the stream with a time limit for each reply. It must not end without the last one. */
function answeredInTime(stream: InstallStream, id: string, timeoutMs: number): InstallStream {
  async function* inTime(): AsyncGenerator<InstallReply> {
    const replies = stream.replies[Symbol.asyncIterator]();
    for (;;) {
      const { done, value } = await within(timeoutMs, id, replies.next());
      if (done) throw new CairnError("OUTCOME_UNKNOWN", `node ${id} ended the stream without an answer`);
      yield value;
    }
  }
  return { send: (message) => stream.send(message), replies: inTime(), cancel: () => stream.cancel() };
}

function refusal({ reason, detail }: InstallReply & { kind: "refused" }): GatewayError {
  const isForNow = reason === "busy" || reason === "no_space";
  return new GatewayError(isForNow ? gatewayCodes.temporarilyUnavailable : gatewayCodes.preconditionFailed, detail);
}

function metaOf(position: LogPosition, { membership, membershipIndex }: Status): SnapshotMeta {
  // A snapshot cannot hold a membership that was set after the snapshot's index.
  const index = Math.min(Number(membershipIndex), position.index);
  return { ...position, membership: { index, members: membershipFromMessage(membership) } };
}

/**
 * Returns the term of a leader that may send this snapshot now: not below the node's own, and not a
 * term in which the node itself leads.
 */
function termFor(position: LogPosition, { term, leaderId, nodeId }: Status): number {
  const current = Number(term);
  return Math.max(position.term, leaderId === nodeId ? current + 1 : current);
}

async function* asynchronously<Item>(items: Iterable<Item>): AsyncGenerator<Item> {
  yield* items;
}
