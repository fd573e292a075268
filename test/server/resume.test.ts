import { expect, test } from "vitest";
import type { SnapshotInfo } from "../../src/storage/snapshots/snapshot_info.js";
import { until } from "../support/conditions.js";
import { contentsOf, putCommand } from "../support/nodes/acting_leader.js";
import { Cluster, type ServedMember } from "../support/nodes/served_cluster.js";

const SETTINGS = { trailingLogBytes: 0, snapshotChunkBytes: 64 * 1024 };

/** Puts 8 MB into the state in front of a snapshot at one index on two nodes, while the third is down. Returns the leader of the two. */
async function twoWithSnapshot(): Promise<{
  cluster: Cluster;
  leader: ServedMember;
  down: string;
  info: SnapshotInfo;
}> {
  const cluster = await Cluster.of(["n1", "n2", "n3"], SETTINGS);
  const { id: down } = await cluster.follower();
  await cluster.crash(down);
  const leader = await cluster.leader();
  await write(leader, 16);
  const index = leader.node.machine.appliedIndex;
  for (const { node } of cluster.members.values()) {
    await until(() => node.machine.appliedIndex >= index, "both have all");
    await node.takeSnapshot({ index, keepLogBytes: 0 });
  }
  return { cluster, leader, down, info: leader.node.snapshots.newest()! };
}

async function write({ node }: ServedMember, count: number): Promise<void> {
  for (let at = 0; at < count; at++) {
    const value = Buffer.alloc(500_000, at);
    await node.propose(putCommand(`k${node.raft.log.last.index}`, value));
  }
}

/** Starts the third node, and has the link break when 90 % are sent; no other transfer comes through. */
async function breakAt90(cluster: Cluster, down: string, info: SnapshotInfo): Promise<ServedMember> {
  cluster.tap.breakAt = info.fileBytes * 0.9;
  const third = await cluster.start(down, SETTINGS);
  await until(() => cluster.tap.broken > 0, "the link is broken");
  await until(() => third.node.receiver.transfer === undefined, "the receiver has noticed");
  return third;
}

/** What has to be sent again: what the stream, the parts of it in flight, and the last chunk held. */
const LOST_AT_MOST = 2_000_000;

async function expectCaughtUp(cluster: Cluster, third: ServedMember, info: SnapshotInfo): Promise<void> {
  const { tap } = cluster;
  const before = tap.sentBytes;
  tap.breakAt = Number.POSITIVE_INFINITY;
  const { node } = await cluster.leader();
  await until(() => third.node.machine.appliedIndex >= info.index, "the snapshot is installed");
  const again = tap.sentBytes - before;
  expect(again).toBeGreaterThan(0.05 * info.fileBytes);
  expect(again).toBeLessThan(0.1 * info.fileBytes + LOST_AT_MOST);
  await until(() => third.node.machine.appliedIndex === node.machine.appliedIndex, "it has all");
  expect(contentsOf(third.node)).toEqual(contentsOf(node));
  expect(await cluster.home.receivedParts()).toEqual([]);
}

test("a transfer that broke off at 90 % sends only the rest", async () => {
  const { cluster, down, info } = await twoWithSnapshot();
  await expectCaughtUp(cluster, await breakAt90(cluster, down, info), info);
});

test("a transfer resumes when the receiver was killed and restarted", async () => {
  const { cluster, down, info } = await twoWithSnapshot();
  await breakAt90(cluster, down, info);
  await cluster.crash(down);
  await expectCaughtUp(cluster, await cluster.start(down, SETTINGS), info);
});

test("a transfer resumes when another node leads, whose snapshot is the same", async () => {
  const { cluster, leader, down, info } = await twoWithSnapshot();
  const third = await breakAt90(cluster, down, info);
  const other = [...cluster.members.keys()].find((id) => id !== down && id !== leader.id)!;
  await leader.node.transferLeadership(other);
  await expectCaughtUp(cluster, third, info);
  expect((await cluster.leader()).id).toBe(other);
});

test("a transfer resumes when the sender was killed and leads again", async () => {
  const { cluster, leader, down, info } = await twoWithSnapshot();
  const third = await breakAt90(cluster, down, info);
  await cluster.crash(leader.id);
  const again = await cluster.start(leader.id, SETTINGS);
  await cluster.leader();
  await again.node.campaign().catch(() => {});
  await expectCaughtUp(cluster, third, info);
});

test("a transfer resumes with the nearly complete snapshot when the leader has taken newer ones", async () => {
  const { cluster, leader, down, info } = await twoWithSnapshot();
  const third = await breakAt90(cluster, down, info);
  for (let round = 0; round < 3; round++) {
    await write(leader, 1);
    await leader.node.takeSnapshot({ keepLogBytes: 0 });
  }
  expect(leader.node.snapshots.list().map(({ index }) => index)).toContain(info.index);
  expect(leader.node.raft.log.boundary.index).toBe(info.index);
  await expectCaughtUp(cluster, third, info);
});

test("a transfer detects damage on the sender's disk behind the place where it resumes, and does not resend it for ever", async () => {
  const { cluster, leader, down, info } = await twoWithSnapshot();
  const third = await breakAt90(cluster, down, info);
  cluster.home.disk.flipBit(info.path, Math.floor(info.fileBytes * 0.95));
  cluster.tap.breakAt = Number.POSITIVE_INFINITY;
  await until(() => third.node.machine.appliedIndex >= info.index, "another snapshot is installed");
  expect(contentsOf(third.node)).toEqual(contentsOf(leader.node));
  for (const snapshot of leader.node.snapshots.list()) await leader.node.snapshots.verify(snapshot);
  expect(await cluster.home.receivedParts()).toEqual([]);
});
