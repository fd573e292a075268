import { expect, test } from "vitest";
import { deferred, failure, isSettled } from "../../support/conditions.js";
import { ActingLeader, putCommand, putEntries, readValue } from "../../support/nodes/acting_leader.js";
import { memoryHome } from "../../support/nodes/nodes.js";

test("a linearizable read sees every write that was answered before it was requested", async () => {
  const node = await memoryHome().startLeader();
  let answered = 0;
  const writer = async () => {
    for (let value = 1; value <= 200; value++) {
      await node.propose(putCommand("counter", `${value}`));
      answered = value;
    }
  };
  const reader = async () => {
    while (answered < 200) {
      const least = answered;
      await node.linearizableRead();
      expect(Number(readValue(node, "counter") ?? 0)).toBeGreaterThanOrEqual(least);
    }
  };
  await Promise.all([writer(), reader(), reader()]);
});

test("a read waits until everything that was committed before it is applied", async () => {
  const home = memoryHome();
  const node = await home.start();
  // Before the no-op of its own term is committed, a leader does not know what is committed.
  const hold = deferred();
  home.disk.onCall = ({ kind }) => (kind === "datasync" ? hold.promise : undefined);
  const campaign = node.campaign();
  const read = node.linearizableRead();
  expect(await isSettled(read)).toBe(false);
  hold.resolve();
  await Promise.all([campaign, read]);
  expect(node.machine.appliedIndex).toBe(1);
});

test("a follower answers stale reads, and refuses linearizable ones", async () => {
  const node = await memoryHome().start();
  await new ActingLeader(node, 2).replicate(putEntries(1, 3, 2));
  expect(readValue(node, "k3")).toBe("2.3");
  const error = await failure("NOT_LEADER", node.linearizableRead());
  expect(error.leaderHint).toBe("n9");
});

test("reads that wait when the leader is deposed are refused", async () => {
  const home = memoryHome();
  const node = await home.start();
  const hold = deferred();
  home.disk.onCall = ({ kind }) => (kind === "datasync" ? hold.promise : undefined);
  const campaign = failure("NOT_LEADER", node.campaign());
  const read = failure("NOT_LEADER", node.linearizableRead());
  const append = new ActingLeader(node, 9).append([], 0, { index: 0, term: 0 });
  await Promise.all([campaign, read]);
  hold.resolve();
  await append;
});

test("waitApplied resolves when the index is applied, and can be aborted", async () => {
  const node = await memoryHome().start();
  const leader = new ActingLeader(node, 1);
  const third = node.waitApplied(3);
  const controller = new AbortController();
  const ninth = node.waitApplied(9, controller.signal);
  await leader.replicate(putEntries(1, 2));
  expect(await isSettled(third)).toBe(false);
  await leader.append(putEntries(3, 4), 3);
  await third;
  expect(node.machine.appliedIndex).toBe(3);
  controller.abort();
  await failure("CANCELLED", ninth, "index 9");
  await failure("CANCELLED", node.waitApplied(9, controller.signal));
  await node.waitApplied(3, controller.signal);
});

test("a read can be aborted while it waits", async () => {
  const home = memoryHome();
  const node = await home.start();
  const hold = deferred();
  home.disk.onCall = ({ kind }) => (kind === "datasync" ? hold.promise : undefined);
  const campaign = node.campaign();
  const controller = new AbortController();
  const read = node.linearizableRead(controller.signal);
  controller.abort();
  await failure("CANCELLED", read);
  hold.resolve();
  await campaign;
});
