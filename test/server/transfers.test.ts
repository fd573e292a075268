import { crc32, deflateRawSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { SnapshotCompression, SnapshotRefusal } from "../../gen/cairn/v1/raft_pb.js";
import { limits } from "../../src/base/limits.js";
import { deferred, failure, until } from "../support/conditions.js";
import { contentsOf, putCommand, putEntries, snapshotOf } from "../support/nodes/acting_leader.js";
import { settled } from "../support/nodes/loopback.js";
import type { NodeSettings } from "../support/nodes/nodes.js";
import { Cluster, type ServedMember } from "../support/nodes/served_cluster.js";
import { headerTo, serve } from "../support/nodes/served_node.js";
import { patterned } from "../support/snapshots/snapshot_files.js";

/** HTTP/2 windows and the buffers of sockets. */
const NETWORK_BYTES = 1024 * 1024;
const SETTINGS = { trailingLogBytes: 0, snapshotChunkBytes: 64 * 1024 };

/** Three nodes, of which one is down and needs a snapshot of 4 MB. */
async function oneNeedsSnapshot(value: (at: number) => Uint8Array, settings: NodeSettings = {}) {
  const cluster = await Cluster.of(["n1", "n2", "n3"], { ...SETTINGS, ...settings });
  const { id: down } = await cluster.follower();
  await cluster.crash(down);
  const leader = await cluster.leader();
  for (let at = 0; at < 16; at++) await leader.node.propose(putCommand(`k${at}`, value(at)));
  // Left to itself, the log would reach back to the snapshot before, and that is the beginning.
  await leader.node.takeSnapshot({ keepLogBytes: 0 });
  return { cluster, leader, down, info: leader.node.snapshots.newest()! };
}

const incompressible = (at: number) => patterned(250_000, at + 1);

/** Holds the receiver's disk when so many bytes have arrived. */
async function heldAtHalf(cluster: Cluster, down: string, fileBytes: number) {
  const hold = deferred();
  let written = 0;
  cluster.home.disk.onCall = ({ kind, path }) => {
    if (kind !== "write" || !path.endsWith(".part") || !path.includes(`/${down}/`)) return;
    written += limits.snapshotWriteBytes;
    return written > fileBytes / 2 ? hold.promise : undefined;
  };
  const third = await cluster.start(down, SETTINGS);
  await until(() => written > fileBytes / 2, "half of it has arrived");
  return { third, hold };
}

async function expectCaughtUp(
  leader: ServedMember,
  third: ServedMember,
  tap: Cluster["tap"],
  info: { index: number; fileBytes: number },
) {
  await until(() => third.node.machine.appliedIndex >= info.index, "the snapshot is installed");
  expect(contentsOf(third.node)).toEqual(contentsOf(leader.node));
  // What was on its way is sent again, and no more.
  expect(tap.sentBytes).toBeLessThan(1.6 * info.fileBytes);
}

describe("CancelTransfer", () => {
  test.each(["sender", "receiver"] as const)(
    "at the %s ends the transfer, and the next one resumes it",
    async (end) => {
      const { cluster, leader, down, info } = await oneNeedsSnapshot(incompressible);
      const { third, hold } = await heldAtHalf(cluster, down, info.fileBytes);
      const { admin } = end === "sender" ? leader : third;
      const [transfer] = (await admin.listTransfers({})).transfers;
      expect(transfer).toMatchObject({
        sending: end === "sender",
        totalBytes: BigInt(info.fileBytes),
        resumedBytes: 0n,
      });
      await failure("NOT_FOUND", admin.cancelTransfer({ id: `${transfer!.id}0` }), "ListTransfers names");
      const cancelled = admin.cancelTransfer({ id: transfer!.id });
      hold.resolve();
      await cancelled;
      await until(() => (third.node.receiver.transfer?.resumedBytes ?? 0) > 0, "the next transfer has begun");
      expect((await third.admin.listTransfers({})).transfers[0]?.resumedBytes).toBeGreaterThan(0.3 * info.fileBytes);
      await expectCaughtUp(leader, third, cluster.tap, info);
      await failure("NOT_FOUND", admin.cancelTransfer({ id: transfer!.id }));
    },
  );

  test("at the receiver reaches a sender that gets no other message from it", async () => {
    const { node, raft, admin } = await serve();
    const call = raft.installSnapshot();
    const answers = call.responses[Symbol.asyncIterator]();
    const { index, term, file, sha256 } = await snapshotOf(putEntries(1, 20, 2));
    const offer = { index: BigInt(index), snapshotTerm: BigInt(term), fileBytes: BigInt(file.byteLength), sha256 };
    await call.send({
      message: { case: "offer", value: { header: headerTo(node), term: 2n, leaderId: "n9", ...offer } },
    });
    await answers.next();
    await admin.cancelTransfer({ id: "from-n9-20" });
    const { value } = await answers.next();
    expect(value?.message).toMatchObject({ case: "refused", value: { reason: SnapshotRefusal.CANCELLED } });
    expect((await answers.next()).done).toBe(true);
    expect(node.receiver.transfer).toBeUndefined();
  });
});

describe("compression of a snapshot transfer", () => {
  const compressible = (at: number) => Buffer.from(`value ${at} `.repeat(30_000));

  test("makes the transfer smaller, and leaves the file the same", async () => {
    const settings = { snapshotCompression: "deflate" } as const;
    const { cluster, leader, down, info } = await oneNeedsSnapshot(compressible, settings);
    const third = await cluster.start(down, SETTINGS);
    await expectCaughtUp(leader, third, cluster.tap, info);
    expect(cluster.tap.sentBytes).toBeLessThan(info.fileBytes / 10);
    expect(Buffer.from(third.node.snapshots.newest()!.sha256)).toEqual(Buffer.from(info.sha256));
  });

  test("is not used when it does not help", async () => {
    const { cluster, leader, down, info } = await oneNeedsSnapshot(incompressible, { snapshotCompression: "deflate" });
    const third = await cluster.start(down, SETTINGS);
    await expectCaughtUp(leader, third, cluster.tap, info);
    expect(cluster.tap.sentBytes).toBeLessThanOrEqual(info.fileBytes);
  });

  test.each([
    ["a bomb", deflateRawSync(Buffer.alloc(64 * limits.transferChunkBytes)), 1_000, true, "INVALID_ARGUMENT"],
    ["fewer bytes than it says", deflateRawSync(Buffer.alloc(10)), 11, true, "INVALID_ARGUMENT"],
    ["no DEFLATE data", patterned(100), 100, true, "CORRUPT"],
    ["more than a chunk may", deflateRawSync(Buffer.alloc(10)), limits.transferChunkBytes + 1, true, "LIMIT_EXCEEDED"],
    ["what was not offered to be compressed", deflateRawSync(Buffer.alloc(10)), 10, false, "INVALID_ARGUMENT"],
  ] as const)("ends the stream for a chunk that holds %s", async (_, data, fileBytes, isOffered, code) => {
    const { node, raft } = await serve();
    const call = raft.installSnapshot();
    const answers = call.responses[Symbol.asyncIterator]();
    const { index, term, file, sha256 } = await snapshotOf(putEntries(1, 500, 2));
    const offer = { index: BigInt(index), snapshotTerm: BigInt(term), fileBytes: BigInt(file.byteLength), sha256 };
    const compression = isOffered ? SnapshotCompression.DEFLATE : SnapshotCompression.UNSPECIFIED;
    const value = { header: headerTo(node), term: 2n, leaderId: "n9", ...offer, compression };
    await call.send({ message: { case: "offer", value } });
    expect((await answers.next()).value?.message).toMatchObject({
      case: "accepted",
      value: { offset: 0n, compression },
    });
    await call.send({
      message: { case: "chunk", value: { term: 2n, offset: 0n, crc32: crc32(data), data, fileBytes } },
    });
    await failure(code, answers.next());
    await until(() => node.receiver.transfer === undefined, "the transfer has ended");
  });
});

test("a receiver that accepts no more bytes makes its sender wait after a bounded number of bytes", async () => {
  const { cluster, leader, down, info } = await oneNeedsSnapshot((at) => patterned(400_000, at));
  const { third, hold } = await heldAtHalf(cluster, down, 1);
  const sent = await settled(() => cluster.tap.sentBytes);
  // Two writes of the part file, the buffers of both ends of the stream, and the chunk in hand; what is left is the network's.
  const buffered = 2 * limits.snapshotWriteBytes + 2 * (limits.streamBufferBytes + SETTINGS.snapshotChunkBytes);
  expect(sent).toBeLessThan(buffered + NETWORK_BYTES);
  expect(sent).toBeLessThan(info.fileBytes / 2);
  hold.resolve();
  await expectCaughtUp(leader, third, cluster.tap, info);
});

test("a snapshot transfer keeps to its bandwidth limit", async () => {
  const bytesPerSecond = 8_000_000;
  const { cluster, leader, down, info } = await oneNeedsSnapshot(incompressible, { snapshotBandwidth: bytesPerSecond });
  const begun = performance.now();
  const third = await cluster.start(down, SETTINGS);
  await expectCaughtUp(leader, third, cluster.tap, info);
  // A tenth of a second may be made up for.
  expect(performance.now() - begun).toBeGreaterThan((info.fileBytes / bytesPerSecond - 0.15) * 1_000);
});
