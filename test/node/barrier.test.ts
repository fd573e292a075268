import { expect, test } from "vitest";
import { deferred, failure, isSettled, until } from "../support/conditions.js";
import { ActingLeader, putCommand, putEntries, putEntry } from "../support/nodes/acting_leader.js";
import { memoryHome } from "../support/nodes/nodes.js";

test("a barrier is committed behind all earlier proposals, and changes nothing", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const hold = deferred();
  home.disk.onCall = ({ kind }) => (kind === "datasync" ? hold.promise : undefined);
  const write = node.propose(putCommand("a", "1"));
  const barrier = node.barrier();
  expect(await isSettled(barrier)).toBe(false);
  hold.resolve();
  expect((await write).index).toBe(2);
  expect(await barrier).toBe(3);
  expect(node.machine.appliedIndex).toBe(3);
  const [entry] = node.raft.log.entriesFrom(3, 1, 1024)!;
  expect(entry).toMatchObject({ index: 3, type: "no-op" });
});

test("a follower refuses a barrier and names the leader, and the barrier of a deposed leader has not happened", async () => {
  const home = memoryHome();
  const follower = await home.start();
  await new ActingLeader(follower, 2).replicate(putEntries(1, 3, 2));
  expect((await failure("NOT_LEADER", follower.barrier())).leaderHint).toBe("n9");

  const other = memoryHome();
  const node = await other.startLeader();
  const hold = deferred();
  other.disk.onCall = ({ kind }) => (kind === "datasync" ? hold.promise : undefined);
  const barrier = failure("NOT_LEADER", node.barrier(), "another leader's entry took index 2");
  const replicated = new ActingLeader(node, 9).replicate([putEntry(2, 9)], { index: 1, term: 1 });
  hold.resolve();
  await Promise.all([barrier, replicated]);
});

test("an observer is told when a command was applied, and when another node leads", async () => {
  const seen: string[] = [];
  let look = () => {};
  const node = await memoryHome().start({ onTurn: () => look() });
  look = () => void seen.push(`${node.raft.leader} ${node.machine.appliedIndex}`);
  await node.campaign();
  await node.propose(putCommand("a", "1"));
  await until(() => seen.includes("n1 2"), "the command was seen to be applied");
  await new ActingLeader(node, 9).append([], 0, { index: 2, term: 1 });
  await until(() => seen.at(-1)?.startsWith("n9") === true, "the other leader was seen");
});

test("a node knows its leader's commit index even when its own log does not reach it", async () => {
  const node = await memoryHome().start();
  const leader = new ActingLeader(node, 2);
  await leader.replicate(putEntries(1, 3, 2));
  await leader.append([], 90, { index: 3, term: 2 });
  expect(node.raft.log.commit).toBe(3);
  expect(node.knownCommit).toBe(90);
});
