import { cp, rm } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { CairnError } from "../../src/errors.js";
import { MemoryMachine } from "../../src/machine/memory_machine.js";
import type { KeyValueNode } from "../../src/server/key_value_node.js";
import { snapshotFileName } from "../../src/storage/snapshots/file_names.js";
import {
  ActingLeader,
  configurationEntry,
  contentsOf,
  putCommand,
  putEntries,
  putEntry,
  readValue,
  snapshotOf,
} from "../support/acting_leader.js";
import { failure } from "../support/conditions.js";
import { diskHome, homes, memoryHome } from "../support/nodes.js";

describe.each(homes)("with the $kind machine", ({ make }) => {
  test("term, vote, log, membership and state are there again after a clean stop", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 4);
    await leader.replicate(putEntries(1, 30, 4));
    await node.takeSnapshot({ index: 20, keepLogBytes: 0 });
    const vote = {
      type: "request_vote",
      preVote: false,
      leadershipTransfer: false,
      last: { index: 99, term: 9 },
    } as const;
    expect(await node.requestVote({ ...vote, from: "n7", term: 9 })).toMatchObject({ granted: true, term: 9 });
    await home.stop(node);
    const again = await home.start();
    expect(again.raft.term).toBe(9);
    expect(await again.requestVote({ ...vote, from: "n8", term: 9 })).toMatchObject({ granted: false, term: 9 });
    expect(await again.requestVote({ ...vote, from: "n7", term: 9 })).toMatchObject({ granted: true, term: 9 });
    expect(again.raft.log.boundary.index).toBe(20);
    expect(again.raft.log.last).toEqual({ index: 30, term: 4 });
    expect(contentsOf(again)).toHaveLength(30);
    expect(again.recovery).toMatchObject({ snapshotIndex: 20, tornBytes: 0 });
  });
});

describe("the state on disk", () => {
  test("is kept after a clean stop: nothing is replayed", async () => {
    const home = await diskHome();
    const node = await home.startLeader();
    for (let value = 0; value < 50; value++) await node.propose(putCommand("k", `${value}`));
    await home.stop(node);
    const again = await home.start();
    expect(again.recovery).toMatchObject({ stateRebuilt: false, replayedEntries: 0, snapshotIndex: 0 });
    expect(readValue(again, "k")).toBe("49");
  });

  test("is kept after a crash of the process", async () => {
    const home = await diskHome();
    const node = await home.startLeader();
    for (let value = 0; value < 50; value++) await node.propose(putCommand("k", `${value}`));
    await home.crash(node);
    const again = await home.start();
    expect(again.recovery).toMatchObject({ stateRebuilt: false, replayedEntries: 0 });
    expect(again.machine.appliedIndex).toBe(51);
    expect(readValue(again, "k")).toBe("49");
  });

  test("is thrown away and rebuilt from snapshot and log when it may not be trusted", async () => {
    const home = await diskHome();
    const node = await home.startLeader();
    for (let value = 0; value < 50; value++) await node.propose(putCommand("k", `${value}`));
    await node.takeSnapshot({ index: 40 });
    await home.stop(node);
    const again = await home.start({ trustState: false });
    // The commit index on disk may lag behind by one.
    expect(again.recovery).toMatchObject({ stateRebuilt: true, snapshotIndex: 40 });
    expect(again.recovery.replayedEntries).toBeGreaterThanOrEqual(10);
    expect(readValue(again, "k")).toBe("49");
  });
});

/** A node that has stopped with snapshots at 20 and 40 and a log up to 60 that starts behind `boundary`. */
async function stoppedNode(keepLogBytes: number) {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 2);
  for (let first = 1; first <= 60; first += 10) await leader.replicate(putEntries(first, first + 9, 2));
  await node.takeSnapshot({ index: 20, keepLogBytes });
  await node.takeSnapshot({ index: 40, keepLogBytes });
  const [newest, older] = node.snapshots.list();
  await home.stop(node);
  return { home, newest: newest!, older: older! };
}

function expectWhole(node: KeyValueNode): void {
  expect(node.machine.appliedIndex).toBe(60);
  expect(contentsOf(node)).toHaveLength(60);
}

test("a snapshot that a crash has kept retention from removing is removed at the start", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 2).replicate(putEntries(1, 60, 2));
  await node.takeSnapshot({ index: 20 });
  await node.takeSnapshot({ index: 40 });
  home.disk.failCall("unlink");
  await expect(node.takeSnapshot({ index: 60 })).rejects.toMatchObject({ code: "EIO" });
  await home.crash(node);
  const again = await home.start();
  expect(again.snapshots.list().map(({ index }) => index)).toEqual([60, 40]);
});

describe("damaged snapshots", () => {
  const whole = Number.MAX_SAFE_INTEGER;

  test.each([
    ["in its payload", (bytes: number) => Math.floor(bytes / 2)],
    ["in its header", () => 20],
    ["in its trailer", (bytes: number) => bytes - 3],
  ])("the newest one %s: the older one is used when the log reaches back to it", async (_where, offset) => {
    const { home, newest } = await stoppedNode(whole);
    home.disk.flipBit(newest.path, offset(newest.fileBytes));
    const node = await home.start();
    expect(node.recovery).toMatchObject({ stateRebuilt: true, snapshotIndex: 20, replayedEntries: 40 });
    expectWhole(node);
    expect(node.snapshots.damaged().map(({ path }) => path)).toEqual([newest.path]);
    // And it is made good again.
    expect(await node.takeSnapshot({ index: 40 })).toMatchObject({ taken: true });
    await node.snapshots.verify(node.snapshots.newest()!);
  });

  test("both: the log alone is enough when it was never trimmed", async () => {
    const { home, newest, older } = await stoppedNode(whole);
    for (const { path } of [newest, older]) home.disk.flipBit(path, 200);
    const node = await home.start();
    expect(node.recovery).toMatchObject({ stateRebuilt: false, snapshotIndex: 0, replayedEntries: 60 });
    expectWhole(node);
  });

  test.each([
    ["in its payload", (bytes: number) => Math.floor(bytes / 2)],
    ["in its header", () => 20],
  ])("the newest one %s, with the log trimmed: refuses to start, and names the file", async (_where, offset) => {
    const { home, newest } = await stoppedNode(0);
    home.disk.flipBit(newest.path, offset(newest.fileBytes));
    const before = home.disk.contents(newest.path);
    const error = await failure("CORRUPT", home.start(), /ends at index 20, and the log, which starts at index 41/);
    expect(error.message).toContain(newest.path);
    expect(error.message).toContain("Never put back an old copy of it");
    expect(home.disk.contents(newest.path)).toEqual(before);
    // Mended as the text says, it starts.
    home.disk.flipBit(newest.path, offset(newest.fileBytes));
    expectWhole(await home.start());
  });

  test("one that was published but not installed, and is damaged: the log is not thrown away for it", async () => {
    const { home } = await stoppedNode(whole);
    const snapshot = await snapshotOf(putEntries(1, 500, 3));
    const path = `/data/n1/snapshots/${snapshotFileName(snapshot)}`;
    snapshot.file[snapshot.file.byteLength >> 1]! ^= 1;
    home.disk.setContents(path, snapshot.file);
    const node = await home.start();
    expectWhole(node);
    expect(node.raft.log.last.index).toBe(60);
  });
});

test("rule 9: a hole between the snapshot and the log refuses to start, with the two numbers", async () => {
  const { home, newest } = await stoppedNode(0);
  await home.disk.unlink(newest.path);
  await failure("CORRUPT", home.start(), /ends at index 20, and the log, which starts at index 41:/);
  // Nothing was changed by the attempt, nor is the directory locked.
  await failure("CORRUPT", home.start(), /ends at index 20/);
});

test("T3: a log that ends before a clean stop noted is refused, with both numbers", async () => {
  const home = await diskHome();
  const node = await home.startLeader();
  await node.propose(putCommand("a", "1"));
  await cp(`${home.directoryOf("n1")}/wal`, `${home.directory}/old-wal`, { recursive: true });
  for (let value = 0; value < 20; value++) await node.propose(putCommand("a", `${value}`));
  await home.stop(node);
  await rm(`${home.directoryOf("n1")}/wal`, { recursive: true });
  await cp(`${home.directory}/old-wal`, `${home.directoryOf("n1")}/wal`, { recursive: true });
  const error = await failure(
    "CORRUPT",
    home.start(),
    /the log in .* ends at index 2, but ended at 22 when the node last stopped/,
  );
  expect(error.message).toContain(`${home.directoryOf("n1")}/wal`);
  expect(error.message).toContain("Never put back an old copy of it");
});

test("T3: a log that ends before what the state holds is refused, with both numbers", async () => {
  const home = await diskHome();
  const node = await home.startLeader();
  await node.propose(putCommand("a", "1"));
  await cp(`${home.directoryOf("n1")}/wal`, `${home.directory}/old-wal`, { recursive: true });
  for (let value = 0; value < 20; value++) await node.propose(putCommand("a", `${value}`));
  await home.stop(node);
  await rm(`${home.directoryOf("n1")}/wal`, { recursive: true });
  await cp(`${home.directory}/old-wal`, `${home.directoryOf("n1")}/wal`, { recursive: true });
  await rm(`${home.directoryOf("n1")}/stopped.json`);
  const error = await failure("CORRUPT", home.start(), /applied index 22, but the log in .* ends at 2/);
  expect(error.message).toContain(`${home.directoryOf("n1")}/wal`);
});

test("a log directory that was removed is refused by name", async () => {
  const { home } = await stoppedNode(0);
  await home.disk.removeAll("/data/n1/wal");
  await failure("DATA_DIRECTORY", home.start(), /the log is missing: \/data\/n1\/wal/);
});

test("a damaged log is refused by name, and its bytes are kept", async () => {
  const { home } = await stoppedNode(Number.MAX_SAFE_INTEGER);
  const segment = (await home.files()).find((path) => path.includes("/wal/"))!;
  home.disk.flipBit(segment, 300);
  const before = home.disk.contents(segment);
  const error = await failure("CORRUPT", home.start());
  expect(error.message).toContain(segment);
  expect(home.disk.contents(segment)).toEqual(before);
});

test("a start that fails leaves nothing open and gives the directory back", async () => {
  const { home } = await stoppedNode(0);
  const failing = async () => {
    throw new Error("no state machine today");
  };
  await expect(home.start({ openMachine: failing })).rejects.toThrow("no state machine today");
  await home.expectNoLeaks();
  expectWhole(await home.start());
});

test("a start whose replay runs out of room says DISK_FULL, and works when there is room", async () => {
  const { home } = await stoppedNode(0);
  class FullMachine extends MemoryMachine {
    override apply(): never {
      throw new CairnError("DISK_FULL", "no space left for the state");
    }
  }
  await failure("DISK_FULL", home.start({ openMachine: async () => new FullMachine() }));
  await home.expectNoLeaks();
  expectWhole(await home.start());
});

test("the members of a new cluster are put in order, and must make sense", async () => {
  const home = memoryHome();
  const member = (id: string, role: "voter" | "learner" = "voter") => ({ id, address: "", role });
  await failure("INVALID_ARGUMENT", home.start({ members: [member("n1"), member("n1")] }), "n1 is listed twice");
  await failure("INVALID_ARGUMENT", home.start({ members: [member("n1", "learner")] }), "no voter");
  await failure("INVALID_ARGUMENT", home.start({ members: [member("n 1")] }), "member id");
  await failure("INVALID_ARGUMENT", home.start({ id: "n/1" }), "node id");
  await failure("INVALID_ARGUMENT", home.start({ clusterId: "c".repeat(65) }), "idCharacters");
  expect(await home.files()).toEqual([]);
  const node = await home.start({ members: [member("n2"), member("n1"), member("n3", "learner")] });
  expect(node.raft.membership).toEqual({ index: 0, members: [member("n1"), member("n2"), member("n3", "learner")] });
  // Snapshots can be taken with them: the format wants them in order.
  await new ActingLeader(node, 1).replicate(putEntries(1, 3));
  expect((await node.takeSnapshot({})).taken).toBe(true);
});

test("rule 8: a configuration that went with the log when the installation of a snapshot was finished is not looked for", async () => {
  const home = memoryHome();
  const node = await home.start({ onFatal: () => {} });
  const members = [
    { id: "n1", address: "", role: "voter" },
    { id: "n2", address: "", role: "learner" },
  ] as const;
  await new ActingLeader(node, 1, "n8").append([...putEntries(1, 2), configurationEntry(3, 1, members)], 0);
  let isRenamed = false;
  let isPublished = false;
  home.cutPowerAt(({ kind, path }) => {
    if (isPublished && path.includes("/wal")) return true;
    isRenamed ||= kind === "rename" && path.endsWith(".part");
    isPublished ||= isRenamed && kind === "syncDirectory";
    return false;
  });
  const snapshot = await snapshotOf([...putEntries(1, 1), putEntry(2, 2)]);
  await new ActingLeader(node, 2).install(snapshot).catch(() => {});
  expect(home.disk.powerIsOff).toBe(true);
  const after = await home.powerCut("all");
  const restarted = await after.start();
  expect(restarted.raft.log.last).toEqual({ index: 2, term: 2 });
  expect(restarted.raft.membership).toMatchObject({ index: 0, members: [{ id: "n1" }] });
  await after.close();
});
