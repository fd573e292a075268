import { cp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { CairnError } from "../../../src/base/errors.js";
import { MemoryMachine } from "../../../src/machine/kv/memory_machine.js";
import type { Entry } from "../../../src/raft/types.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { snapshotFileName } from "../../../src/storage/snapshots/file_names.js";
import { failure, until } from "../../support/conditions.js";
import {
  ActingLeader,
  configurationEntry,
  contentsOf,
  putCommand,
  putEntries,
  putEntry,
  readValue,
  snapshotOf,
} from "../../support/nodes/acting_leader.js";
import { diskHome, type Home, homes, memoryHome } from "../../support/nodes/nodes.js";

describe.each(homes)("a node with the $kind machine", ({ make }) => {
  test("has term, vote, log, membership and state after a clean stop", async () => {
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

describe("the state on disk at a start", () => {
  test("is kept after a clean stop, and nothing is replayed", async () => {
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

  test("is discarded and rebuilt from snapshot and log when it may not be trusted", async () => {
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

test("a snapshot that a crash kept retention from removing is removed at the next start", async () => {
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

describe("a start with damaged snapshots", () => {
  const whole = Number.MAX_SAFE_INTEGER;

  test.each([
    ["in its payload", (bytes: number) => Math.floor(bytes / 2)],
    ["in its header", () => 20],
    ["in its trailer", (bytes: number) => bytes - 3],
  ])(
    "uses the older one when the newest is damaged %s and the log reaches back to the older one",
    async (_where, offset) => {
      const { home, newest } = await stoppedNode(whole);
      home.disk.flipBit(newest.path, offset(newest.fileBytes));
      const node = await home.start();
      expect(node.recovery).toMatchObject({ stateRebuilt: true, snapshotIndex: 20, replayedEntries: 40 });
      expectWhole(node);
      expect(node.snapshots.damaged().map(({ path }) => path)).toEqual([newest.path]);
      // And it is made good again.
      expect(await node.takeSnapshot({ index: 40 })).toMatchObject({ taken: true });
      await node.snapshots.verify(node.snapshots.newest()!);
    },
  );

  test("uses the log alone when both are damaged and the log was never trimmed", async () => {
    const { home, newest, older } = await stoppedNode(whole);
    for (const { path } of [newest, older]) home.disk.flipBit(path, 200);
    const node = await home.start();
    expect(node.recovery).toMatchObject({ stateRebuilt: false, snapshotIndex: 0, replayedEntries: 60 });
    expectWhole(node);
  });

  test.each([
    ["in its payload", (bytes: number) => Math.floor(bytes / 2)],
    ["in its header", () => 20],
  ])(
    "is refused, with the file's name, when the newest is damaged %s and the log was trimmed",
    async (_where, offset) => {
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
    },
  );

  describe("uses a trusted state to fill the hole of a damaged snapshot (T7)", () => {
    /** A node that has stopped cleanly at index 60 with a snapshot at 40, right behind which its log starts. */
    async function stopped(last: readonly Entry[] = putEntries(51, 60, 2)) {
      const home = await diskHome();
      const node = await home.start({ snapshots: false });
      const leader = new ActingLeader(node, 2);
      for (let first = 1; first <= 50; first += 10) await leader.replicate(putEntries(first, first + 9, 2));
      await leader.replicate(last);
      await node.takeSnapshot({ index: 40, keepLogBytes: 0 });
      const { path } = node.snapshots.newest()!;
      await home.stop(node);
      return { home, path };
    }

    async function expectMended(home: Home): Promise<void> {
      const node = await home.start({ snapshots: false });
      expect(node.recovery).toMatchObject({ snapshotIndex: 0, stateRebuilt: false, replayedEntries: 0 });
      expect(node.raft.membership.members.map(({ id }) => id)).toContain("n1");
      await until(() => node.snapshots.newest()?.index === 60, "a snapshot was taken in place of the lost one");
      const contents = contentsOf(node);
      await home.stop(node);
      // Its state is not needed from here on.
      const again = await home.start({ snapshots: false, trustState: false });
      expect(again.recovery).toMatchObject({ snapshotIndex: 60, stateRebuilt: true });
      expect(contentsOf(again)).toEqual(contents);
      expect(contents.length).toBeGreaterThanOrEqual(59);
    }

    test("with the membership from the header when the file is cut short", async () => {
      const { home, path } = await stopped();
      await truncate(path, (await stat(path)).size - 100);
      await expectMended(home);
    });

    test.each(["its header", "the whole file"])(
      "with the membership from the log when the file is without %s",
      async (lost) => {
        const members = [{ id: "n1", address: "n1:1", role: "voter" }] as const;
        const last = [...putEntries(51, 59, 2), configurationEntry(60, 2, members)];
        const { home, path } = await stopped(last);
        if (lost === "its header") await writeFile(path, Buffer.alloc(40));
        else await rm(path);
        await expectMended(home);
      },
    );

    test("but is refused when no place tells the membership", async () => {
      const { home, path } = await stopped();
      await rm(path);
      await failure("CORRUPT", home.start(), /there is a hole .* ends at index 0, .* starts at index 41/);
    });

    test("but not a state that may not be trusted", async () => {
      const { home, path } = await stopped();
      await truncate(path, (await stat(path)).size - 100);
      await failure("CORRUPT", home.start({ trustState: false }), /there is a hole/);
    });
  });

  test.each([
    ["cut short", (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 100)],
    ["with a flipped bit in its header", (bytes: Uint8Array) => bytes.with(24, bytes[24]! ^ 1)],
  ])("replaces the newest automatic one, %s, by the older one and the log (T7)", async (_how, spoil) => {
    const home = memoryHome();
    const node = await home.start({ snapshots: { entries: 20 }, trailingLogBytes: 0 });
    const leader = new ActingLeader(node, 2);
    for (let first = 1; first <= 70; first += 10) await leader.replicate(putEntries(first, first + 9, 2));
    await until(() => node.snapshots.newest()?.index === 60, "the third snapshot was taken");
    await until(() => node.raft.log.boundary.index === 40, "the log was trimmed");
    const { path } = node.snapshots.newest()!;
    await home.stop(node);
    home.disk.setContents(path, spoil(home.disk.contents(path)));
    const again = await home.start();
    expect(again.recovery).toMatchObject({ snapshotIndex: 40, stateRebuilt: true });
    expect(contentsOf(again)).toHaveLength(70);
  });

  test("keeps the log when one is damaged that was published and not installed", async () => {
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

test("a start is refused with the two numbers when there is a hole between the snapshot and the log (R9)", async () => {
  const { home, newest } = await stoppedNode(0);
  await home.disk.unlink(newest.path);
  await failure("CORRUPT", home.start(), /ends at index 20, and the log, which starts at index 41:/);
  // Nothing was changed by the attempt, nor is the directory locked.
  await failure("CORRUPT", home.start(), /ends at index 20/);
});

/** A node that has stopped cleanly at index 22, and whose log is put back to where it ended at index 2. */
async function withOldLog() {
  const home = await diskHome();
  const node = await home.startLeader();
  await node.propose(putCommand("a", "1"));
  await cp(`${home.directoryOf("n1")}/wal`, `${home.directory}/old-wal`, { recursive: true });
  for (let value = 0; value < 20; value++) await node.propose(putCommand("a", `${value}`));
  await home.stop(node);
  await rm(`${home.directoryOf("n1")}/wal`, { recursive: true });
  await cp(`${home.directory}/old-wal`, `${home.directoryOf("n1")}/wal`, { recursive: true });
  return home;
}

test("a log that ends before the end noted at a clean stop is refused, with both numbers (T3)", async () => {
  const home = await withOldLog();
  const error = await failure(
    "CORRUPT",
    home.start(),
    /the log in .* ends at index 2, but ended at 22 when the node last stopped/,
  );
  expect(error.message).toContain(`${home.directoryOf("n1")}/wal`);
  expect(error.message).toContain("Never put back an old copy of it");
});

test("a log that ends before the applied index of the state is refused, with both numbers (T3)", async () => {
  const home = await withOldLog();
  await rm(`${home.directoryOf("n1")}/stopped.json`);
  const error = await failure("CORRUPT", home.start(), /applied index 22, but the log in .* ends at 2/);
  expect(error.message).toContain(`${home.directoryOf("n1")}/wal`);
});

test("a log that lost its end is also refused when it is made to start at a snapshot, and the known members are named (T3)", async () => {
  const home = await diskHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 4);
  const members = ["n1", "n2"].map((id) => ({ id, address: "", role: "voter" as const }));
  await leader.replicate([configurationEntry(1, 4, members), ...putEntries(2, 30, 4)]);
  await cp(`${home.directoryOf("n1")}/wal`, `${home.directory}/old-wal`, { recursive: true });
  await leader.replicate(putEntries(31, 40, 4));
  await node.takeSnapshot({ index: 35 });
  await home.stop(node);
  await rm(`${home.directoryOf("n1")}/wal`, { recursive: true });
  await cp(`${home.directory}/old-wal`, `${home.directoryOf("n1")}/wal`, { recursive: true });
  await rm(`${home.directoryOf("n1")}/stopped.json`);
  const error = await failure("CORRUPT", home.start(), /applied index 40, but the log in .* ends at 35/);
  expect(error).toMatchObject({ lost: { acknowledged: 40, has: 35 }, members });
});

test("a start without its log directory is refused by the directory's name", async () => {
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

test("a start that fails leaves nothing open and unlocks the directory", async () => {
  const { home } = await stoppedNode(0);
  const failing = async () => {
    throw new Error("no state machine today");
  };
  await expect(home.start({ openMachine: failing })).rejects.toThrow("no state machine today");
  await home.expectNoLeaks();
  expectWhole(await home.start());
});

test("a node whose replay runs out of room starts, answers, and applies the rest when there is room", async () => {
  const { home } = await stoppedNode(0);
  const disk = { isFull: true };
  class FullMachine extends MemoryMachine {
    override apply(...args: Parameters<MemoryMachine["apply"]>) {
      if (disk.isFull) throw new CairnError("DISK_FULL", "no space left for the state");
      return super.apply(...args);
    }
  }
  const node = await home.start({ openMachine: async () => new FullMachine() });
  await until(() => node.isDiskFull, "the node has seen that the disk is full");
  expect(node.machine.appliedIndex).toBe(40);
  expect(contentsOf(node)).toHaveLength(40);
  await failure("DISK_FULL", node.waitApplied(60));
  disk.isFull = false;
  await until(() => !node.isDiskFull, "there is room again");
  await node.waitApplied(60);
  expectWhole(node);
});

test("the members of a new cluster are sorted, and validated", async () => {
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

test("a configuration that went with the log when the installation of a snapshot was finished is not looked for (R8)", async () => {
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
