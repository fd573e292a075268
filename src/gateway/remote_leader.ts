import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GetStatusResponse } from "../../gen/cairn/v1/admin_pb.js";
import {
  AppendEntriesRejection,
  type AppendEntriesRequest,
  type AppendEntriesRequestSchema,
  type AppendEntriesResponse,
  type InstallSnapshotRequestSchema,
  type InstallSnapshotResponse,
  type SnapshotInstalled,
  SnapshotRefusal,
  type SnapshotRefused,
} from "../../gen/cairn/v1/raft_pb.js";
import { type EntrySchema, EntryType } from "../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";
import { membershipFromMessage } from "../encoding/membership.js";
import { encodeSnapshot, measureSnapshot } from "../encoding/snapshot_encoder.js";
import { encodePairsPayload } from "../machine/kv/payload.js";
import { PROTOCOL_VERSION } from "../peers/protocol.js";
import type { LogPosition, SnapshotMeta } from "../raft/types.js";
import type { BidiStream } from "../rpc/client.js";
import { GatewayError, gatewayCodes } from "./errors.js";
import type { GatewayNode } from "./nodes.js";

const LEADER_ID = "gateway";

/** An entry to be sent: a command, or a no-op when there is no data. */
export interface OutgoingEntry extends LogPosition {
  readonly data: Uint8Array | undefined;
}

export interface Pair {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** A request without its header. */
type AppendRequest = Omit<Exclude<MessageInitShape<typeof AppendEntriesRequestSchema>, AppendEntriesRequest>, "header">;

interface LeaderStream {
  readonly call: BidiStream<MessageInitShape<typeof AppendEntriesRequestSchema>, AppendEntriesResponse>;
  readonly answers: AsyncIterator<AppendEntriesResponse>;
  readonly header: ReturnType<typeof headerFor>;
}

/** Acts as a node's leader: AppendEntries over one stream, and InstallSnapshot. */
export class RemoteLeader {
  #stream: LeaderStream | undefined;

  constructor(
    private readonly node: GatewayNode,
    private readonly timeoutMs: number,
  ) {}

  /**
   * Sends entries, in as many messages as they need; the last one carries `commitTo`. Resolves when
   * the entries are durable.
   * @throws GatewayError 22 when the node refuses them
   */
  async append(term: number, prev: LogPosition, entries: readonly OutgoingEntry[], commitTo: number): Promise<void> {
    let at = prev;
    const messages = inMessages(entries);
    for (const [number, batch] of messages.entries()) {
      const isLast = number === messages.length - 1;
      await this.#send({
        term: BigInt(term),
        leaderId: LEADER_ID,
        prevLogIndex: BigInt(at.index),
        prevLogTerm: BigInt(at.term),
        entries: batch.map(toMessage),
        leaderCommit: BigInt(isLast ? commitTo : 0),
      });
      at = batch.at(-1) ?? at;
    }
  }

  /**
   * Sends a snapshot of a state. Returns the node's final answer; undefined when the node has
   * already committed that index.
   * @throws GatewayError 22 when it refuses for another reason
   */
  async install(position: LogPosition, pairs: readonly Pair[]): Promise<SnapshotInstalled | undefined> {
    const status = await this.node.admin.getStatus({}, { timeoutMs: this.timeoutMs });
    const header = {
      clusterId: status.clusterId,
      meta: metaOf(position, status),
      chunkBytes: limits.snapshotChunkBytes,
    };
    const payload = () => asynchronously(encodePairsPayload(pairs, position));
    const { fileBytes, sha256 } = await measureSnapshot(header, payload());
    const term = BigInt(termFor(position, status));
    const call = this.node.raft.installSnapshot();
    const answers = call.responses[Symbol.asyncIterator]();
    const offer = {
      header: headerFor(status),
      term,
      leaderId: LEADER_ID,
      index: BigInt(position.index),
      snapshotTerm: BigInt(position.term),
      fileBytes: BigInt(fileBytes),
      sha256,
    };
    try {
      await call.send({ message: { case: "offer", value: offer } });
      const first = await this.#firstAnswer(answers);
      if (first.case === "refused" && first.value.reason === SnapshotRefusal.ALREADY_COMMITTED) return undefined;
      if (first.case === "refused") throw refusal(first.value);
      const from = first.case === "accepted" ? Number(first.value.offset) : 0;
      const sending = sendFile(call, term, from, encodeSnapshot(header, payload()));
      const [installed] = await Promise.all([this.#untilInstalled(answers), sending]);
      return installed;
    } finally {
      call.cancel();
    }
  }

  /**
   * Returns the first answer, after the progress messages that the node sends while it verifies the
   * part of the snapshot that it has.
   */
  async #firstAnswer(answers: AsyncIterator<InstallSnapshotResponse>): Promise<InstallSnapshotResponse["message"]> {
    for (;;) {
      const { message } = await this.#next(answers);
      if (message.case !== "progress") return message;
    }
  }

  /** Closes the stream; the next message opens a new one. */
  close(): void {
    this.#stream?.call.cancel();
    this.#stream = undefined;
  }

  async #send(request: AppendRequest): Promise<void> {
    this.#stream ??= await this.#open();
    const { call, answers, header } = this.#stream;
    try {
      await call.send({ ...request, header });
      checkAccepted(await this.#next(answers));
    } catch (error) {
      if (!(error instanceof GatewayError)) this.close();
      throw error;
    }
  }

  async #open(): Promise<LeaderStream> {
    const status = await this.node.admin.getStatus({}, { timeoutMs: this.timeoutMs });
    const call = this.node.raft.appendEntries();
    return { call, answers: call.responses[Symbol.asyncIterator](), header: headerFor(status) };
  }

  async #untilInstalled(answers: AsyncIterator<InstallSnapshotResponse>): Promise<SnapshotInstalled> {
    for (;;) {
      const { message } = await this.#next(answers);
      if (message.case === "installed") return message.value;
      if (message.case === "refused") throw refusal(message.value);
    }
  }

  /** Returns the next answer of a stream. @throws CairnError TIMEOUT, OUTCOME_UNKNOWN */
  async #next<Answer>(answers: AsyncIterator<Answer>): Promise<Answer> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      const error = new CairnError("TIMEOUT", `node ${this.node.id} gave no answer in ${this.timeoutMs} ms`);
      timer = setTimeout(() => reject(error), this.timeoutMs);
    });
    try {
      const { done, value } = await Promise.race([answers.next(), timeout]);
      if (done) throw new CairnError("OUTCOME_UNKNOWN", `node ${this.node.id} ended the stream without an answer`);
      return value;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Sends a file from the offset that the node chooses: the node may have the first part already. */
async function sendFile(
  call: BidiStream<MessageInitShape<typeof InstallSnapshotRequestSchema>, unknown>,
  term: bigint,
  from: number,
  file: AsyncIterable<Uint8Array>,
): Promise<void> {
  let offset = 0;
  for await (const piece of file) {
    const data = piece.subarray(Math.min(Math.max(from - offset, 0), piece.byteLength));
    offset += piece.byteLength;
    if (data.byteLength === 0) continue;
    const chunk = { term, offset: BigInt(offset - data.byteLength), crc32: crc32(data), data };
    await call.send({ message: { case: "chunk", value: chunk } });
  }
  call.end();
}

/** Splits entries into messages within the limits; without entries, returns one empty message. */
function inMessages(entries: readonly OutgoingEntry[]): OutgoingEntry[][] {
  const messages: OutgoingEntry[][] = [[]];
  let bytes = 0;
  for (const entry of entries) {
    const size = (entry.data?.byteLength ?? 0) + 32;
    const current = messages.at(-1)!;
    if (current.length > 0 && (bytes + size > limits.appendBytes || current.length === limits.appendEntries)) {
      messages.push([entry]);
      bytes = size;
    } else {
      current.push(entry);
      bytes += size;
    }
  }
  return messages;
}

function toMessage({ index, term, data }: OutgoingEntry): MessageInitShape<typeof EntrySchema> {
  const place = { index: BigInt(index), term: BigInt(term) };
  return data === undefined ? { ...place, type: EntryType.NO_OP } : { ...place, type: EntryType.COMMAND, data };
}

function checkAccepted(answer: AppendEntriesResponse): void {
  if (answer.success) return;
  const reason = AppendEntriesRejection[answer.rejection];
  throw new GatewayError(gatewayCodes.preconditionFailed, `${answer.detail} (${reason})`);
}

function refusal({ reason, detail }: SnapshotRefused): GatewayError {
  const isForNow = reason === SnapshotRefusal.BUSY || reason === SnapshotRefusal.NO_SPACE;
  return new GatewayError(isForNow ? gatewayCodes.temporarilyUnavailable : gatewayCodes.preconditionFailed, detail);
}

function headerFor({ clusterId, nodeId }: GetStatusResponse) {
  return { protocolVersion: PROTOCOL_VERSION, clusterId, senderId: LEADER_ID, receiverId: nodeId };
}

function metaOf(position: LogPosition, { membership, membershipIndex }: GetStatusResponse): SnapshotMeta {
  // A snapshot cannot hold a membership that was set after the snapshot's index.
  const index = Math.min(Number(membershipIndex), position.index);
  return { ...position, membership: { index, members: membershipFromMessage(membership) } };
}

/**
 * Returns the term of a leader that may send this snapshot now: not below the node's own, and not a
 * term in which the node itself leads.
 */
function termFor(position: LogPosition, { term, leaderId, nodeId }: GetStatusResponse): number {
  const current = Number(term);
  return Math.max(position.term, leaderId === nodeId ? current + 1 : current);
}

async function* asynchronously<Item>(items: Iterable<Item>): AsyncGenerator<Item> {
  yield* items;
}
