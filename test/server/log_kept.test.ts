import { describe, expect, test } from "vitest";
import { SnapshotReason } from "../../gen/cairn/v1/admin_pb.js";
import type { Logger } from "../../src/system/logger.js";
import { deferred, isLasting, until } from "../support/conditions.js";
import { putCommand } from "../support/nodes/acting_leader.js";
import type { NodeSettings } from "../support/nodes/nodes.js";
import { Cluster, type ServedMember } from "../support/nodes/served_cluster.js";

const CHUNK = 16 * 1024;

/** A follower is to be brought back by the leader's snapshot at `index`, and the transfer is held at its first chunks. */
async function heldTransfer(settings: NodeSettings) {
  const cluster = await Cluster.of(["n1", "n2", "n3"], { trailingLogBytes: 0, snapshotChunkBytes: CHUNK, ...settings });
  const { id } = await cluster.follower();
  await cluster.crash(id);
  const leader = await cluster.leader();
  await write(leader, 20);
  const { index } = (await leader.node.takeSnapshot({ keepLogBytes: 0 })).snapshot!;
  const hold = deferred();
  cluster.home.disk.onCall = ({ kind, path }) =>
    kind === "write" && path.startsWith(`/data/${id}/snapshots/`) ? hold.promise : undefined;
  const follower = await cluster.start(id, { trailingLogBytes: 0 });
  await until(() => follower.node.receiver.transfer !== undefined, "the transfer has begun");
  return { leader, follower, index, release: hold.resolve };
}

async function write({ node }: ServedMember, count: number): Promise<void> {
  for (let at = 0; at < count; at++) await node.propose(putCommand(`k${at}`, new Uint8Array(10_000)));
}

function hasAll(follower: ServedMember, leader: ServedMember): boolean {
  return follower.node.machine.appliedIndex === leader.node.raft.log.last.index;
}

test("the log that a follower needs behind its snapshot is kept until it has caught up without another snapshot", async () => {
  const { leader, follower, index, release } = await heldTransfer({});
  await write(leader, 20);
  const newer = (await leader.node.takeSnapshot({})).snapshot!.index;
  await write(leader, 20);
  const newest = (await leader.node.takeSnapshot({})).snapshot!.index;
  expect(leader.node.raft.log.boundary.index).toBe(index);
  // The one that is being sent stays as well.
  expect(leader.node.snapshots.list().map((info) => info.index)).toEqual([newest, newer, index]);
  // Also when somebody wants the log to be short.
  expect(await leader.admin.compact({})).toMatchObject({ firstIndex: BigInt(index + 1) });
  const { segments } = leader.node.logStats;
  release();
  await until(() => hasAll(follower, leader), "it has caught up");
  await until(() => leader.node.raft.log.boundary.index === newer, "the log is trimmed again");
  await until(() => leader.node.snapshots.list().length === 2, "the old snapshot is removed");
  await until(() => leader.node.logStats.segments < segments, "segments are removed");
  expect((await leader.admin.getStatus({})).lastSnapshot).toMatchObject({ index: BigInt(newest) });
  // It has needed one snapshot, and entries behind it.
  const { lastSnapshot, warnings } = await follower.admin.getStatus({});
  expect(lastSnapshot).toMatchObject({ index: BigInt(index), reason: SnapshotReason.INSTALLED });
  expect(lastSnapshot!.finishedUnixMs).toBeGreaterThan(1_700_000_000_000n);
  expect(warnings.filter(isLasting)).toEqual([]);
});

test("the log that is kept for a silent follower is trimmed when its transfer can no longer be resumed", async () => {
  const { leader, follower, index, release } = await heldTransfer({ transferResumeMs: 100 });
  await write(leader, 20);
  const newer = (await leader.node.takeSnapshot({})).snapshot!.index;
  await write(leader, 20);
  await leader.node.takeSnapshot({});
  expect(leader.node.raft.log.boundary.index).toBe(index);
  follower.server.kill();
  await until(() => leader.node.raft.log.boundary.index === newer, "the log is trimmed again");
  release();
});

test("the log is trimmed beyond its limit all the same: the snapshot is outdated, a newer one is sent, and the leader says so", async () => {
  const said: string[] = [];
  const say = (facts: object, message: string) => {
    const { detail } = facts as { detail?: string };
    said.push(detail ?? message);
  };
  const logger: Logger = { debug: () => {}, info: () => {}, warn: say, error: () => {} };
  const { leader, follower, index, release } = await heldTransfer({ pinnedLogBytes: 50_000, logger });
  await write(leader, 20);
  const newest = (await leader.node.takeSnapshot({ keepLogBytes: 0 })).snapshot!.index;
  const boundary = leader.node.raft.log.boundary.index;
  expect(boundary).toBeGreaterThan(index);
  // Of the newest log, so much is kept.
  expect(boundary).toBeLessThan(newest);
  const outgrown =
    "the log that a follower will need has outgrown the bytes kept for it: it will be sent a newer snapshot";
  expect(said.filter((text) => text === outgrown)).toHaveLength(1);
  release();
  await until(() => hasAll(follower, leader), "it has caught up");
  expect(follower.node.snapshotting.last).toMatchObject({ index: newest, reason: "installed" });
  const futile = "a snapshot was outdated when it was installed: sending a newer one";
  expect(said.filter((text) => text === futile)).toHaveLength(1);
  const hopeless = said.filter((text) => text.startsWith(`${follower.id} cannot catch up: a snapshot of `));
  expect(hopeless).toHaveLength(1);
  expect(hopeless[0]).toMatch(
    /of 19\d KiB takes [\d.]+ s to arrive and be installed, at .*\/s, and the log grows by .*\/s meanwhile, more than the 49 KiB kept for it; slow/,
  );
  await until(() => leader.node.snapshotting.warnings.length === 0, "the warning ends when it has caught up");
});

describe("a follower that was away while the log kept all that it lacks", () => {
  /** There are twenty keys, and it was away while `keys` others were written a hundred times in all. */
  async function comesBack(keys: number) {
    const limits = { snapshotInsteadBytes: 100_000 };
    const cluster = await Cluster.of(["n1", "n2", "n3"], { limits });
    const { node } = await cluster.leader();
    for (let at = 0; at < 20; at++) await node.propose(putCommand(`old${at}`, new Uint8Array(10_000)));
    const { id, node: follower } = await cluster.follower();
    await until(() => follower.machine.appliedIndex === node.raft.log.last.index, "it has the first keys");
    await cluster.crash(id);
    for (let at = 0; at < 100; at++) await node.propose(putCommand(`k${at % keys}`, new Uint8Array(10_000)));
    const { index } = (await node.takeSnapshot({})).snapshot!;
    await node.propose(putCommand("last", "1"));
    expect(node.raft.log.boundary.index).toBe(0);
    const back = await cluster.start(id, { limits });
    await until(() => back.node.machine.appliedIndex === node.raft.log.last.index, "it has all");
    return { back, index };
  }

  test("gets the snapshot and the log behind it when the snapshot is smaller", async () => {
    const { back, index } = await comesBack(5);
    expect(back.node.snapshotting.last).toMatchObject({ index, reason: "installed" });
  });

  test("gets the log when that is smaller", async () => {
    const { back } = await comesBack(100);
    expect(back.node.snapshotting.last).toBeUndefined();
    expect(back.node.raft.log.boundary.index).toBe(0);
  });
});
