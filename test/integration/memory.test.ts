import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { limits } from "../../src/base/limits.js";
import { openChannel, type SharedChannel } from "../../src/rpc/client.js";
import { type RunningNode, startNode } from "../support/processes/processes.js";
import { makeSnapshotFile, type SnapshotFile, statePairs } from "../support/snapshots/snapshot_stream.js";
import { type FilesInUse, filesInUse, hasProc, NO_PROC, peakResidentBytes } from "./process_usage.js";

const CLUSTER = "memory";
/** Files that may be open or not at any one moment: far fewer than one for each snapshot. */
const FEW = 8;
/** Snapshots after which one file that stays open for each of them is several times as many. */
const MANY = 50;

if (!hasProc) console.log(NO_PROC);

describe.skipIf(!hasProc)("a node in its own process", () => {
  let data: string;
  let node: RunningNode;
  let channel: SharedChannel;
  beforeEach(async () => {
    data = await mkdtemp(join(tmpdir(), "cairn-memory-"));
    node = await startNode({ id: "n1", data, args: ["--cluster-id", CLUSTER, "--elections", "manual"] });
    channel = openChannel(node.address);
  });
  afterEach(async () => {
    channel.close();
    await node.kill();
    await rm(data, { recursive: true, force: true });
  });

  test("never holds a whole copy of the 128 MiB of state that it receives", async () => {
    const before = await peakResidentBytes(node.pid);
    const file = await makeSnapshotFile({ clusterId: CLUSTER, index: 1, term: 1, pairs: statePairs(32_768, 4096) });
    await install(channel, file);
    const grown = (await peakResidentBytes(node.pid)) - before;
    // Measured: 44 MiB for a state of 8 MiB, 64 for 32, 74 for 128. The code takes that, the heap's young generation, buffers of the stream
    // and of the checks, a few chunks, and LMDB's mapped pages, which the kernel can drop. One whole copy of the state in memory would come
    // on top of it.
    console.log(
      `peak of resident memory: ${mebibytes(before)} MiB idle, ${mebibytes(grown)} MiB more after 128 MiB of state`,
    );
    expect(grown).toBeLessThan(file.bytes.byteLength);
  });

  test(`holds no more files open after ${MANY} installed and ${MANY} taken snapshots than after the first ones`, async () => {
    const file = (index: number) => makeSnapshotFile({ clusterId: CLUSTER, index, term: 1, pairs: statePairs(1, 10) });
    let index = 0;
    while (index < 10) await install(channel, await file(++index));
    const before = await filesInUse(node.pid);
    while (index < MANY) await install(channel, await file(++index));
    await noMoreThan(before);

    const admin = channel.client(AdminService);
    await admin.campaign({});
    for (let count = 0; count < MANY; count++) {
      await channel.client(KeyValueService).put({ key: Buffer.from("key") });
      expect((await admin.takeSnapshot({})).taken).toBe(true);
    }
    await noMoreThan(before);
  }, 120_000);

  /** Waits for what is still being closed: the state that an installed one has replaced. */
  async function noMoreThan(before: FilesInUse): Promise<void> {
    const descriptors = async () => (await filesInUse(node.pid)).descriptors;
    const mapped = async () => (await filesInUse(node.pid)).mapped;
    await expect.poll(descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before.descriptors + FEW);
    await expect.poll(mapped, { timeout: 10_000 }).toBeLessThanOrEqual(before.mapped + FEW);
  }
});

/** Sends a snapshot as a leader of term 1 does. */
async function install(channel: SharedChannel, file: SnapshotFile): Promise<void> {
  const { index, term: snapshotTerm, bytes, sha256 } = file;
  const header = { protocolVersion: 2, clusterId: CLUSTER, senderId: "n2", receiverId: "n1" };
  const fileBytes = BigInt(bytes.byteLength);
  const offer = {
    header,
    term: 1n,
    leaderId: "n2",
    index: BigInt(index),
    snapshotTerm: BigInt(snapshotTerm),
    fileBytes,
    sha256,
  };
  const stream = channel.client(RaftService).installSnapshot({ timeoutMs: 60_000 });
  const answers: (string | undefined)[] = [];
  const answered = (async () => {
    for await (const { message } of stream.responses) answers.push(message.case);
  })();
  await stream.send({ message: { case: "offer", value: offer } });
  for (let offset = 0; offset < bytes.byteLength; offset += limits.snapshotChunkBytes) {
    const chunk = bytes.subarray(offset, offset + limits.snapshotChunkBytes);
    const value = { term: 1n, offset: BigInt(offset), crc32: crc32(chunk), data: chunk };
    await stream.send({ message: { case: "chunk", value } });
  }
  stream.end();
  await answered;
  expect(answers.at(-1)).toBe("installed");
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
