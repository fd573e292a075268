import { basename } from "node:path";
import { crc32 } from "node:zlib";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import {
  type InstallSnapshotRequestSchema,
  type InstallSnapshotResponse,
  SnapshotRefusal,
} from "../../gen/cairn/v1/raft_pb.js";
import type { CairnErrorCode } from "../../src/base/errors.js";
import { limits } from "../../src/base/limits.js";
import type { KeyValueNode } from "../../src/server/kv/key_value_node.js";
import { failure, nextTurn, until, untilAsync } from "../support/conditions.js";
import { holdCalls } from "../support/disk/held_calls.js";
import { ActingLeader, putCommand, putEntries, snapshotOf } from "../support/nodes/acting_leader.js";
import { headerTo, serve } from "../support/nodes/served_node.js";

type InstallInit = MessageInitShape<typeof InstallSnapshotRequestSchema>;
type Served = Awaited<ReturnType<typeof serve>>;

const source = await snapshotOf(
  Array.from({ length: 40 }, (_, at) => ({
    index: at + 1,
    term: 2,
    type: "command" as const,
    data: putCommand(`k${at + 10}`, new Uint8Array(20_000).fill(at)),
  })),
);
const CHUNK = 100_000;

function offerTo(node: KeyValueNode, change: object = {}): InstallInit {
  const value = {
    header: headerTo(node),
    term: 2n,
    leaderId: "n9",
    index: BigInt(source.index),
    snapshotTerm: BigInt(source.term),
    fileBytes: BigInt(source.file.byteLength),
    sha256: source.sha256,
    ...change,
  };
  return { message: { case: "offer", value } };
}

function chunkAt(offset: number, change: object = {}): InstallInit {
  const data = source.file.subarray(offset, offset + CHUNK);
  return {
    message: { case: "chunk", value: { term: 2n, offset: BigInt(offset), crc32: crc32(data), data, ...change } },
  };
}

const chunkOffsets = Array.from({ length: Math.ceil(source.file.byteLength / CHUNK) }, (_, at) => at * CHUNK);

/** A transfer that is carried on answer by answer. */
function transfer({ raft }: Served) {
  const call = raft.installSnapshot();
  const answers = call.responses[Symbol.asyncIterator]();
  const ask = async (request: InstallInit): Promise<InstallSnapshotResponse["message"]> => {
    await call.send(request).catch(() => {});
    const { value } = await answers.next();
    return value?.message;
  };
  /** Sends the last chunk: what comes behind its progress. */
  const finish = async (request: InstallInit) => {
    expect(await ask(request)).toMatchObject({
      case: "progress",
      value: { receivedBytes: BigInt(source.file.byteLength) },
    });
    return (await answers.next()).value?.message;
  };
  return { call, answers, ask, finish };
}

async function expectUnharmed({ home, node }: Served): Promise<void> {
  await until(() => home.disk.openFiles.every((path) => path.includes("/wal/")), "the transfer's file is closed");
  // What remains of it, if anything, is what the next transfer goes on with.
  expect((await home.receivedParts()).length).toBeLessThanOrEqual(1);
  expect(await home.snapshotFiles()).toEqual((await home.receivedParts()).map((path) => basename(path)));
  const leader = new ActingLeader(node, 9);
  expect((await leader.install(source)).outcome).toBe("installed");
  expect(await home.receivedParts()).toEqual([]);
}

describe("the stream of InstallSnapshot", () => {
  test("goes through offer, accepted, chunks, progress and installed", async () => {
    const served = await serve();
    const { ask, finish, answers } = transfer(served);
    expect(await ask(offerTo(served.node))).toMatchObject({ case: "accepted", value: { offset: 0n } });
    for (const offset of chunkOffsets.slice(0, -1)) {
      expect(await ask(chunkAt(offset))).toMatchObject({
        case: "progress",
        value: { receivedBytes: BigInt(offset + CHUNK) },
      });
    }
    expect(await finish(chunkAt(chunkOffsets.at(-1)!))).toMatchObject({
      case: "installed",
      value: { term: 2n, matchIndex: 40n, applied: true },
    });
    expect((await answers.next()).done).toBe(true);
    expect(served.node.machine.appliedIndex).toBe(40);
  });

  test("names the node's true position in a refusal", async () => {
    const served = await serve();
    const { node } = served;
    await new ActingLeader(node, 5).append(putEntries(1, 60, 5), 50);
    const stale = await transfer(served).ask(offerTo(node));
    expect(stale).toMatchObject({
      case: "refused",
      value: { reason: SnapshotRefusal.STALE_TERM, term: 5n, commitIndex: 50n, lastLogIndex: 60n },
    });
    const old = await transfer(served).ask(offerTo(node, { term: 5n }));
    expect(old).toMatchObject({
      case: "refused",
      value: { reason: SnapshotRefusal.ALREADY_COMMITTED, commitIndex: 50n },
    });
    const first = transfer(served);
    expect((await first.ask(offerTo(node, { term: 5n, index: 70n }))).case).toBe("accepted");
    const busy = await transfer(served).ask(offerTo(node, { term: 5n, index: 70n }));
    expect(busy).toMatchObject({ case: "refused", value: { reason: SnapshotRefusal.BUSY } });
    first.call.cancel();
  });

  test("reports a snapshot as installed, but does not apply it, when the node has passed it meanwhile", async () => {
    const served = await serve();
    const { ask, finish } = transfer(served);
    await ask(offerTo(served.node));
    for (const offset of chunkOffsets.slice(0, -1)) await ask(chunkAt(offset));
    await new ActingLeader(served.node, 2).replicate(putEntries(1, 45, 2));
    expect(await finish(chunkAt(chunkOffsets.at(-1)!))).toMatchObject({
      case: "installed",
      value: { matchIndex: 45n, applied: false },
    });
    expect(await served.home.snapshotFiles()).toEqual([]);
  });

  test("is refused when its leader is deposed at the last moment", async () => {
    const served = await serve();
    const { ask } = transfer(served);
    await ask(offerTo(served.node));
    for (const offset of chunkOffsets.slice(0, -1)) await ask(chunkAt(offset));
    await new ActingLeader(served.node, 7, "n8").append([], 0, { index: 0, term: 0 });
    await failure("STALE_TERM", ask(chunkAt(chunkOffsets.at(-1)!)), "term 2 is over, this node is in term 7");
    await expectUnharmed(served);
  });

  const flipped = Buffer.from(source.file.subarray(0, CHUNK));
  flipped[50_000]! ^= 1;
  test.each<[string, CairnErrorCode, InstallInit, string]>([
    ["of another term", "STALE_TERM", chunkAt(0, { term: 1n }), "chunk of term 1"],
    ["of no term", "INVALID_ARGUMENT", chunkAt(0, { term: 0n }), "term is missing"],
    ["at a wrong offset", "INVALID_ARGUMENT", chunkAt(CHUNK), "expected offset 0"],
    ["whose CRC is wrong", "CORRUPT", chunkAt(0, { crc32: 1 }), "expected 1"],
    [
      "whose bytes are wrong, though their CRC is right",
      "CORRUPT",
      chunkAt(0, { data: flipped, crc32: crc32(flipped) }),
      "",
    ],
    ["that is empty", "INVALID_ARGUMENT", chunkAt(0, { data: new Uint8Array(), crc32: 0 }), "is empty"],
    [
      "that is too large",
      "LIMIT_EXCEEDED",
      chunkAt(0, { data: new Uint8Array(limits.transferChunkBytes + 1) }),
      "transferChunkBytes",
    ],
    ["that is no chunk", "INVALID_ARGUMENT", { message: { case: undefined } }, "holds neither an offer nor a chunk"],
  ])("ends with an error for a chunk %s, which does no harm", async (_what, code, chunk, text) => {
    const served = await serve();
    const { ask } = transfer(served);
    expect((await ask(offerTo(served.node))).case).toBe("accepted");
    // What is wrong inside the file shows when a chunk of its own is complete.
    const rest = chunkOffsets.slice(1).map((offset) => chunkAt(offset));
    await failure(
      code,
      async () => {
        for (const next of [chunk, ...rest]) await ask(next);
      },
      text,
    );
    await expectUnharmed(served);
  });

  test.each<[string, CairnErrorCode, object, string]>([
    ["another index", "INVALID_ARGUMENT", { index: 41n }, "offer it as what it is"],
    ["another digest", "CORRUPT", { sha256: new Uint8Array(32) }, "as offered"],
    ["another size", "INVALID_ARGUMENT", { fileBytes: BigInt(source.file.byteLength - 1) }, "as offered"],
    ["a digest that is none", "INVALID_ARGUMENT", { sha256: new Uint8Array(5) }, "sha256 has 5 bytes"],
    ["no term", "INVALID_ARGUMENT", { term: 0n }, "term is missing"],
  ])("ends with an error for an offer of %s, which does no harm", async (_what, code, change, text) => {
    const served = await serve();
    const { ask, answers } = transfer(served);
    await failure(
      code,
      async () => {
        await ask(offerTo(served.node, change));
        for (const offset of chunkOffsets) await ask(chunkAt(offset));
        await answers.next();
      },
      text,
    );
    await expectUnharmed(served);
  });

  test("ends with an error for another cluster's file, even when the offer says otherwise", async () => {
    const served = await serve();
    const foreign = await snapshotOf(putEntries(1, 20), { clusterId: "c2" });
    const change = { index: 20n, snapshotTerm: 1n, fileBytes: BigInt(foreign.file.byteLength), sha256: foreign.sha256 };
    const { ask } = transfer(served);
    await ask(offerTo(served.node, change));
    await failure("WRONG_CLUSTER", ask(chunkAt(0, { data: foreign.file, crc32: crc32(foreign.file) })));
    await expectUnharmed(served);
  });

  test("ends with an error without an offer first", async () => {
    const served = await serve();
    await failure("INVALID_ARGUMENT", transfer(served).ask(chunkAt(0)), "must be an offer");
    const { call, answers } = transfer(served);
    call.end();
    await failure("INVALID_ARGUMENT", answers.next(), "ended without an offer");
    const twice = transfer(served);
    await twice.ask(offerTo(served.node));
    await failure("INVALID_ARGUMENT", twice.ask(offerTo(served.node)), "chunks only");
    await expectUnharmed(served);
  });

  test("says how far it came when it ends in the middle, and does no harm", async () => {
    const served = await serve();
    const { call, answers, ask } = transfer(served);
    await ask(offerTo(served.node));
    await ask(chunkAt(0));
    call.end();
    await failure("INVALID_ARGUMENT", answers.next(), `ended after ${CHUNK} of ${source.file.byteLength} bytes`);
    await expectUnharmed(served);
  });

  test.each([0, 1, 2, 3, chunkOffsets.length - 1])(
    "makes way for the next one when it is cancelled after %i chunks",
    async (count) => {
      const served = await serve();
      const { call, ask } = transfer(served);
      await ask(offerTo(served.node));
      for (const offset of chunkOffsets.slice(0, count)) await ask(chunkAt(offset));
      call.cancel();
      await expectUnharmed(served);
    },
  );

  test("makes way for the next one when it is cancelled with unawaited chunks in transit", async () => {
    const served = await serve();
    for (let round = 0; round < 5; round++) {
      const { call } = transfer(served);
      const sending = [offerTo(served.node), ...chunkOffsets.slice(0, round + 1).map((offset) => chunkAt(offset))];
      const sent = Promise.allSettled(sending.map((request) => call.send(request)));
      for (let turn = 0; turn < round * 3; turn++) await nextTurn();
      call.cancel();
      await sent;
    }
    const free = async () => {
      const accepted = await served.node.receiver.accept(new ActingLeader(served.node, 2).offerOf(source));
      if ("abort" in accepted) await accepted.abort();
      return "abort" in accepted;
    };
    await untilAsync(free, "the node takes a transfer");
    await expectUnharmed(served);
  });

  test("has its snapshot installed even when it is cancelled during the installation", async () => {
    const served = await serve();
    const { call, ask } = transfer(served);
    await ask(offerTo(served.node));
    for (const offset of chunkOffsets.slice(0, -1)) await ask(chunkAt(offset));
    const hold = holdCalls(served.home.disk, ({ kind, path }) => kind === "rename" && path.endsWith(".part"));
    await call.send(chunkAt(chunkOffsets.at(-1)!));
    await hold.reached("it is being published");
    call.cancel();
    hold.resolve();
    await served.node.waitApplied(40);
    await served.home.stop(served.node);
    expect(await served.home.leftovers()).toEqual([]);
  });
});
