import { crc32 } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { GetStatusResponseSchema } from "../../gen/cairn/v1/admin_pb.js";
import {
  type InstallSnapshotRequest,
  type InstallSnapshotResponse,
  InstallSnapshotResponseSchema,
  RaftService,
  SnapshotRefusal,
} from "../../gen/cairn/v1/raft_pb.js";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import type { GatewayNode } from "../../src/gateway/nodes.js";
import { installState } from "../../src/gateway/remote_snapshot.js";
import { addService } from "../../src/rpc/server.js";
import { deferred, loopback } from "../support/nodes/loopback.js";

type Message = InstallSnapshotResponse["message"];
type Chunk = Extract<InstallSnapshotRequest["message"], { case: "chunk" }>["value"];

/** A node that answers the messages of a snapshot stream as a script says; an answer of undefined ends the stream. */
async function scripted(answer: (request: InstallSnapshotRequest["message"]) => Promise<Message | undefined>) {
  const chunks: Chunk[] = [];
  async function* installSnapshot(requests: AsyncIterable<InstallSnapshotRequest>) {
    for await (const { message: request } of requests) {
      if (request.case === "chunk") chunks.push(request.value);
      const message = await answer(request);
      if (message === undefined) return;
      yield create(InstallSnapshotResponseSchema, { message } as never);
    }
  }
  const { address } = await loopback((server) => addService(server, RaftService, { installSnapshot }));
  const status = create(GetStatusResponseSchema, {
    clusterId: "c",
    nodeId: "n1",
    term: 1n,
    membership: { members: [{ id: "n1", role: MemberRole.VOTER }] },
  });
  const node = { id: "n1", address, admin: { getStatus: async () => status } } as unknown as GatewayNode;
  return { install: (timeoutMs = 10_000) => installState(node, position, pairs, timeoutMs), chunks };
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
    const { install, chunks } = await accepting(0);
    expect(await install()).toBe(true);
    let next = 0n;
    for (const { offset, data, crc32: sum } of chunks) {
      expect({ offset, sum }).toEqual({ offset: next, sum: crc32(data) });
      next += BigInt(data.byteLength);
    }
    expect(chunks.length).toBeGreaterThan(1);
  });

  test("resumes where the node says", async () => {
    const whole = await accepting(0);
    await whole.install();
    const file = wholeOf(whole.chunks);
    for (const offset of [1, whole.chunks[0]!.data.byteLength, file.byteLength - 1]) {
      const { install, chunks } = await accepting(offset);
      await install();
      expect(chunks[0]!.offset).toBe(BigInt(offset));
      expect(wholeOf(chunks).equals(file.subarray(offset))).toBe(true);
    }
  });

  test.each([
    [SnapshotRefusal.BUSY, 11],
    [SnapshotRefusal.NO_SPACE, 11],
    [SnapshotRefusal.STALE_TERM, 22],
  ])("that is refused with %s gets error %s with the node's text", async (reason, code) => {
    const { install } = await scripted(async () => ({ case: "refused", value: { reason, detail: "why" } }) as Message);
    await expect(install()).rejects.toMatchObject({ code, text: "why" });
  });

  test("succeeds when the node has the snapshot already", async () => {
    const value = { reason: SnapshotRefusal.ALREADY_COMMITTED, detail: "why" };
    const { install } = await scripted(async () => ({ case: "refused", value }) as Message);
    expect(await install()).toBe(false);
  });

  test("has an unknown outcome when it ends without an answer", async () => {
    const { install } = await scripted(async () => undefined);
    await expect(install()).rejects.toMatchObject({ code: "OUTCOME_UNKNOWN" });
  });

  test("times out when it is not answered", async () => {
    const held = deferred<undefined>();
    const { install } = await scripted(() => held.promise);
    await expect(install(100)).rejects.toMatchObject({ code: "TIMEOUT" });
    held.resolve(undefined);
  });
});
