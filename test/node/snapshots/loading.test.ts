import { expect, onTestFinished, test } from "vitest";
import { failure, isSettled, until } from "../../support/conditions.js";
import { holdCalls } from "../../support/disk/held_calls.js";
import { ActingLeader, contentsOf, putEntries, readValue, snapshotOf } from "../../support/nodes/acting_leader.js";
import { MemoryHome, memoryHome, type NodeSettings } from "../../support/nodes/nodes.js";

// A snapshot of a large state takes long to be loaded. It is durable, and the log starts at it: only the state machine is not there yet.

const source = await snapshotOf(putEntries(1, 500, 2));

/** A node that loads the snapshot until it is let. */
async function loading(home: MemoryHome, settings: NodeSettings = {}) {
  const node = await home.start(settings);
  const leader = new ActingLeader(node, 2);
  await leader.replicate(putEntries(1, 10, 1));
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "read" && path.endsWith(".snap"));
  const installed = leader.install(source);
  installed.catch(() => {});
  await hold.reached("the snapshot is being loaded");
  const load = () => {
    home.disk.onCall = undefined;
    hold.resolve();
  };
  const breakDisk = () => hold.reject(new Error("the disk is broken"));
  return { node, leader, installed, load, breakDisk };
}

test("a node that loads a snapshot votes with the old state, but does not campaign (R13)", async () => {
  const { node, installed, load } = await loading(memoryHome());
  expect([node.machine.appliedIndex, node.raft.log.boundary.index]).toEqual([10, 500]);
  expect(readValue(node, "k10")).toBe("1.10");
  await failure("FAILED_PRECONDITION", node.campaign(), "the snapshot up to 500 is not installed yet");
  const last = { index: 500, term: 2 };
  const vote = { type: "request_vote", from: "n8", term: 3, preVote: false, leadershipTransfer: false } as const;
  expect(await node.requestVote({ ...vote, last: { index: 499, term: 2 } })).toMatchObject({ granted: false });
  expect(await node.requestVote({ ...vote, last })).toMatchObject({ granted: true, term: 3 });
  expect(await isSettled(installed)).toBe(false);
  load();
  expect(await installed).toMatchObject({ outcome: "installed", matchIndex: 500 });
  expect(node.machine.appliedIndex).toBe(500);
  expect(await node.campaign()).toBe(4);
});

test.each([
  ["that are still in memory", {}],
  ["that have left the memory", { limits: { windowBytes: 1_000 } }],
])(
  "entries %s are durable when they are answered during a load, and applied behind the snapshot",
  async (_, settings) => {
    const home = memoryHome();
    const { node, leader, installed, load } = await loading(home, settings);
    const appended = await leader.append(putEntries(501, 800, 2), 790, { index: 500, term: 2 });
    expect(appended).toMatchObject({ matchIndex: 800 });
    // An answer to a heartbeat is a promise, too.
    expect(await leader.append([], 790)).toMatchObject({ matchIndex: 800 });
    expect(node.machine.appliedIndex).toBe(10);
    expect(node.raft.log.firstInMemory > 501).toBe("limits" in settings);
    load();
    await installed;
    await node.waitApplied(790);
    expect(contentsOf(node)).toHaveLength(790);
    await leader.append([], 800);
    await node.waitApplied(800);
    await home.crash(node);
    const restarted = await home.start();
    expect(restarted.machine.appliedIndex).toBe(800);
    expect(readValue(restarted, "k795")).toBe("2.795");
  },
);

test.each(["all", "none"] as const)(
  "a start after a crash that kept %s of the unsynced data continues the load",
  async (keep) => {
    const home = memoryHome();
    const { node, leader, load } = await loading(home);
    await leader.append(putEntries(501, 600, 2), 590, { index: 500, term: 2 });
    const after = new MemoryHome(home.disk.crash({ keep }));
    load();
    await home.crash(node);
    onTestFinished(() => after.close());
    const restarted = await after.start();
    expect(restarted.raft.log.last).toEqual({ index: 600, term: 2 });
    expect(restarted.machine.appliedIndex).toBeGreaterThanOrEqual(500);
    await new ActingLeader(restarted, 2).append([], 600);
    await restarted.waitApplied(600);
    expect(contentsOf(restarted)).toHaveLength(600);
  },
);

test("a snapshot that cannot be loaded stops the node, and nothing is answered", async () => {
  const home = memoryHome();
  const errors: unknown[] = [];
  const { node, installed, breakDisk } = await loading(home, { onFatal: (error) => errors.push(error) });
  const failed = failure("STOPPED", installed);
  breakDisk();
  await failed;
  await until(() => errors.length > 0, "the node has stopped");
  await home.crash(node);
});
