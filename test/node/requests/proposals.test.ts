import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { encodeCommand } from "../../../src/machine/kv/command.js";
import { deferred, failure, isSettled, until } from "../../support/conditions.js";
import { ActingLeader, bytes, isOk, putCommand, putEntries, readValue } from "../../support/nodes/acting_leader.js";
import { homes, memoryHome } from "../../support/nodes/nodes.js";

describe.each(homes)("proposals with the $kind machine", ({ make }) => {
  test("take effect in the order of their calls, and each gets its own result", async () => {
    const node = await (await make()).startLeader();
    const puts = Array.from({ length: 500 }, (_, at) => node.propose(putCommand("counter", `${at}`)));
    const committed = await Promise.all(puts);
    expect(committed.map(({ index }) => index)).toEqual(Array.from({ length: 500 }, (_, at) => at + 2));
    expect(committed.every(({ result, index }) => isOk(result) && Number(result.index) === index)).toBe(true);
    expect(readValue(node, "counter")).toBe("499");
    const missing = await node.propose(encodeCommand({ operation: { case: "delete", value: { key: bytes("none") } } }));
    expect(isOk(missing.result)).toBe(false);
  });
});

test("proposals of many callers at once share a write and a sync of the log", async () => {
  const home = memoryHome();
  // A new segment would be more calls.
  const node = await home.startLeader({ segmentBytes: 1024 * 1024 });
  const before = { ...home.disk.calls };
  await Promise.all(Array.from({ length: 1000 }, (_, at) => node.propose(putCommand(`k${at}`, "v"))));
  expect(home.disk.calls.datasync - before.datasync).toBe(1);
  expect(home.disk.calls.write - before.write).toBeLessThanOrEqual(3);
  expect(node.machine.appliedIndex).toBe(1001);
});

test("proposals that are made while a batch is being synced form the next batch", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const sync = deferred();
  const syncs: string[] = [];
  home.disk.onCall = ({ kind, path }) => {
    if (kind !== "datasync" || !path.includes("/wal/")) return;
    syncs.push(path);
    return syncs.length === 1 ? sync.promise : undefined;
  };
  const first = node.propose(putCommand("a", "1"));
  await until(() => syncs.length === 1, "the first batch is being synced");
  const others = Array.from({ length: 50 }, (_, at) => node.propose(putCommand(`b${at}`, "1")));
  expect(await isSettled(first)).toBe(false);
  expect(node.machine.appliedIndex).toBe(1);
  sync.resolve();
  await Promise.all([first, ...others]);
  expect(syncs).toHaveLength(2);
});

test("a proposal whose caller gives up has an unknown outcome, and still takes effect", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const controller = new AbortController();
  const write = node.propose(putCommand("a", "1"), controller.signal);
  controller.abort();
  await failure("OUTCOME_UNKNOWN", write, "index 2");
  await node.waitApplied(2);
  expect(readValue(node, "a")).toBe("1");
  await failure("CANCELLED", node.propose(putCommand("b", "1"), controller.signal));
  await node.propose(putCommand("c", "1"));
  expect(readValue(node, "b")).toBeUndefined();
});

test("proposals beyond uncommittedBytes are refused as BUSY, and accepted again later", async () => {
  const home = memoryHome();
  const node = await home.startLeader({ segmentBytes: limits.segmentBytes });
  const hold = deferred();
  home.disk.onCall = ({ kind, path }) => (kind === "datasync" && path.includes("/wal/") ? hold.promise : undefined);
  const large = putCommand("large", new Uint8Array(limits.valueBytes));
  const fits = Math.floor(limits.uncommittedBytes / (large.byteLength + 32));
  const writes = Array.from({ length: fits }, () => node.propose(large));
  const error = await failure("BUSY", node.propose(large), `uncommittedBytes is ${limits.uncommittedBytes}`);
  expect(error.retryable).toBe(true);
  hold.resolve();
  await Promise.all(writes);
  await node.propose(putCommand("large", "small again"));
  expect(node.raft.log.last.index).toBe(fits + 2);
});

test("a proposal beyond entryBytes is refused with the limit's name, and nothing happens", async () => {
  const node = await memoryHome().startLeader();
  await failure(
    "LIMIT_EXCEEDED",
    node.propose(new Uint8Array(limits.entryBytes - 63)),
    `entryBytes is ${limits.entryBytes}`,
  );
  expect(node.raft.log.last.index).toBe(1);
  await node.propose(new Uint8Array(limits.entryBytes - 64));
});

test("a proposal to a follower is refused, and the follower names the leader that it knows", async () => {
  const node = await memoryHome().start();
  const unknown = await failure("NOT_LEADER", node.propose(putCommand("a", "1")), "no leader is known");
  expect(unknown.leaderHint).toBeUndefined();
  await new ActingLeader(node, 3, "n7").replicate(putEntries(1, 2, 3));
  const known = await failure("NOT_LEADER", node.propose(putCommand("a", "1")), "the leader is n7");
  expect(known.leaderHint).toBe("n7");
  expect(node.raft.log.last.index).toBe(2);
});

test("a proposal whose index another leader's entry takes fails with an unknown outcome", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const hold = deferred();
  home.disk.onCall = ({ kind, path }) => (kind === "datasync" && path.includes("/wal/") ? hold.promise : undefined);
  const write = node.propose(putCommand("a", "mine"));
  await until(() => node.raft.log.last.index === 2, "the proposal is in the log");
  const other = new ActingLeader(node, 5, "n7").append(putEntries(2, 3, 5), 3, { index: 1, term: 1 });
  home.disk.onCall = undefined;
  hold.resolve();
  await failure("NOT_LEADER", write, "another leader's entry took index 2");
  await other;
  expect(readValue(node, "a")).toBeUndefined();
  expect(readValue(node, "k2")).toBe("5.2");
});

test("a proposal that is truncated is answered as unknown at once, because another member may still commit it", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const hold = deferred();
  home.disk.onCall = ({ kind, path }) => (kind === "datasync" && path.includes("/wal/") ? hold.promise : undefined);
  const controller = new AbortController();
  const first = node.propose(putCommand("a", "first"), controller.signal);
  const second = node.propose(putCommand("b", "second"), controller.signal);
  // Another leader replaces index 2 and commits it; index 3 is gone for now.
  const other = new ActingLeader(node, 5, "n7").append(putEntries(2, 2, 5), 2, { index: 1, term: 1 });
  home.disk.onCall = undefined;
  hold.resolve();
  await failure("OUTCOME_UNKNOWN", second, "the write at index 3");
  await failure("NOT_LEADER", first);
  await other;
  // This node leads again: its no-op takes index 3, and the next proposals go on from there.
  await node.campaign();
  const late = await node.propose(putCommand("b", "late"));
  expect(late.index).toBe(4);
  controller.abort();
  expect(readValue(node, "b")).toBe("late");
});

test("a pending proposal whose index a newer proposal takes rejects at once, and its signal is released", async () => {
  const home = memoryHome();
  const node = await home.startLeader();
  const hold = deferred();
  home.disk.onCall = ({ kind, path }) => (kind === "datasync" && path.includes("/wal/") ? hold.promise : undefined);
  const controller = new AbortController();
  const writes = ["a", "b", "c"].map((key) => node.propose(putCommand(key, "old"), controller.signal));
  const outcomes = writes.map((write) =>
    write.then(
      () => "done",
      (error) => error.code as string,
    ),
  );
  const other = new ActingLeader(node, 5, "n7").append(putEntries(2, 2, 5), 2, { index: 1, term: 1 });
  const campaign = other.then(() => node.campaign());
  home.disk.onCall = undefined;
  hold.resolve();
  await campaign;
  // Index 3 is the no-op; index 4 is taken by this proposal, over the one that was cut off there.
  const late = node.propose(putCommand("c", "new"), undefined);
  controller.abort();
  expect((await late).index).toBe(4);
  expect(await Promise.all(outcomes)).toEqual(["NOT_LEADER", "OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN"]);
  expect(readValue(node, "c")).toBe("new");
});
