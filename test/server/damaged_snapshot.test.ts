import { expect, test } from "vitest";
import { until } from "../support/conditions.js";
import { contentsOf, putCommand } from "../support/nodes/acting_leader.js";
import type { MemoryHome } from "../support/nodes/nodes.js";
import { Cluster } from "../support/nodes/served_cluster.js";

/** A leader whose only snapshot, which its log begins behind, goes bad while it runs, without anybody having noticed. */
async function leaderOfBadSnapshot(spoil: (home: MemoryHome, path: string) => unknown) {
  const cluster = await Cluster.of(["n1"], { trailingLogBytes: 0, snapshots: false });
  const { node, home } = cluster.get("n1");
  for (let at = 0; at < 300; at++) await node.propose(putCommand(`k${at}`, "1"));
  const { snapshot } = await node.takeSnapshot({ keepLogBytes: 0 });
  await node.propose(putCommand("after", "1"));
  await spoil(home, snapshot!.path);
  return { cluster, node };
}

test.each([
  ["has a flipped bit", (home: MemoryHome, path: string) => home.disk.flipBit(path, 3_000)],
  ["has vanished", (home: MemoryHome, path: string) => home.disk.unlink(path)],
])("a snapshot that %s when a follower needs it is taken again, and the follower gets it", async (_how, spoil) => {
  const { cluster, node } = await leaderOfBadSnapshot(spoil);
  await cluster.start("n2");
  await node.changeMembership({ type: "add_learner", id: "n2", address: "n2:1" });
  const { node: follower } = cluster.get("n2");
  await until(() => follower.machine.appliedIndex >= node.machine.appliedIndex, "the follower has all");
  expect(contentsOf(follower)).toEqual(contentsOf(node));
  expect(node.snapshots.newest()!.index).toBeGreaterThan(301);
  await node.snapshots.verify(node.snapshots.newest()!);
});
