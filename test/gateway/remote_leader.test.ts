import { crc32 } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { GetStatusResponseSchema } from "../../gen/cairn/v1/admin_pb.js";
import {
  type InstallSnapshotRequest,
  type InstallSnapshotResponse,
  InstallSnapshotResponseSchema,
  SnapshotRefusal,
} from "../../gen/cairn/v1/raft_pb.js";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import type { GatewayNode } from "../../src/gateway/nodes.js";
import { RemoteLeader } from "../../src/gateway/remote_leader.js";

type Message = InstallSnapshotResponse["message"];
type Chunk = Extract<InstallSnapshotRequest["message"], { case: "chunk" }>["value"];

/** A node that answers the messages of a snapshot stream as a script says; an answer of undefined ends the stream. */
function scripted(answer: (request: InstallSnapshotRequest["message"]) => Promise<Message | undefined>) {
  const chunks: Chunk[] = [];
  const answers: Promise<Message | undefined>[] = [];
  let wake = () => {};
  const call = {
    send: async ({ message }: InstallSnapshotRequest) => {
      if (message.case === "chunk") chunks.push({ ...message.value, data: Buffer.from(message.value.data) });
      answers.push(answer(message));
      wake();
    },
    end: () => {},
    cancel: () => {},
    responses: {
      async *[Symbol.asyncIterator]() {
        for (;;) {
          while (answers.length === 0) {
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
          const message = await answers.shift();
          if (message === undefined) return;
          yield create(InstallSnapshotResponseSchema, { message } as never);
        }
      },
    },
  };
  const status = create(GetStatusResponseSchema, {
    clusterId: "c",
    nodeId: "n1",
    term: 1n,
    membership: { members: [{ id: "n1", role: MemberRole.VOTER }] },
  });
  const node = { id: "n1", admin: { getStatus: async () => status }, raft: { installSnapshot: () => call } };
  return { leader: new RemoteLeader(node as unknown as GatewayNode, 100), chunks };
}

const position = { index: 5, term: 1 };
const pairs = Array.from({ length: 1000 }, (_, at) => ({
  key: Buffer.from(`k${10_000 + at}`),
  value: Buffer.alloc(1000, at),
}));

function accepting(offset: number) {
  let fileBytes = 0n;
  return scripted(async (request) => {
    if (request.case === "offer") {
      fileBytes = request.value.fileBytes;
      return { case: "accepted", value: { offset: BigInt(offset) } } as Message;
    }
    const { offset: at, data } = request.value as Chunk;
    const isWhole = at + BigInt(data.byteLength) === fileBytes;
    const installed = { case: "installed", value: { term: 1n, matchIndex: 5n, applied: true } };
    return (isWhole ? installed : { case: "progress", value: {} }) as Message;
  });
}

const wholeOf = (chunks: readonly Chunk[]) => Buffer.concat(chunks.map(({ data }) => data));

describe("a snapshot stream", () => {
  test("is sent in consecutive chunks, each with its checksum", async () => {
    const { leader, chunks } = accepting(0);
    expect(await leader.install(position, pairs)).toMatchObject({ applied: true, matchIndex: 5n });
    let next = 0n;
    for (const { offset, data, crc32: sum } of chunks) {
      expect({ offset, sum }).toEqual({ offset: next, sum: crc32(data) });
      next += BigInt(data.byteLength);
    }
    expect(chunks.length).toBeGreaterThan(1);
  });

  test("resumes where the node says", async () => {
    const whole = accepting(0);
    await whole.leader.install(position, pairs);
    const file = wholeOf(whole.chunks);
    for (const offset of [1, whole.chunks[0]!.data.byteLength, file.byteLength - 1]) {
      const { leader, chunks } = accepting(offset);
      await leader.install(position, pairs);
      expect(chunks[0]!.offset).toBe(BigInt(offset));
      expect(wholeOf(chunks).equals(file.subarray(offset))).toBe(true);
    }
  });

  test.each([
    [SnapshotRefusal.BUSY, 11],
    [SnapshotRefusal.NO_SPACE, 11],
    [SnapshotRefusal.STALE_TERM, 22],
  ])("that is refused with %s gets error %s with the node's text", async (reason, code) => {
    const { leader } = scripted(async () => ({ case: "refused", value: { reason, detail: "why" } }) as Message);
    await expect(leader.install(position, pairs)).rejects.toMatchObject({ code, text: "why" });
  });

  test("succeeds when the node has the snapshot already", async () => {
    const value = { reason: SnapshotRefusal.ALREADY_COMMITTED, detail: "why" };
    const { leader } = scripted(async () => ({ case: "refused", value }) as Message);
    expect(await leader.install(position, pairs)).toBe(undefined);
  });

  test("has an unknown outcome when it ends without an answer", async () => {
    const { leader } = scripted(async () => undefined);
    await expect(leader.install(position, pairs)).rejects.toMatchObject({ code: "OUTCOME_UNKNOWN" });
  });

  test("times out when it is not answered", async () => {
    const { leader } = scripted(() => new Promise(() => {}));
    await expect(leader.install(position, pairs)).rejects.toMatchObject({ code: "TIMEOUT" });
  });
});
