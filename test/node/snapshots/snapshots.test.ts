import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import type { SnapshotInfo } from "../../../src/storage/snapshots/snapshot_info.js";
import { deferred, during, failure, nextTurn, until } from "../../support/conditions.js";
import { holdCalls } from "../../support/disk/held_calls.js";
import { ActingLeader, ALONE, putCommand, putEntries, snapshotOf } from "../../support/nodes/acting_leader.js";
import { type Home, homes, MemoryHome, memoryHome } from "../../support/nodes/nodes.js";

/** A snapshot's file must be exactly that of the state at its index. */
async function expectStateOf(home: Home, info: SnapshotInfo, term = 1): Promise<void> {
  const expected = await snapshotOf(putEntries(1, info.index, term));
  expect(Buffer.compare(await home.read(info.path), expected.file), `the snapshot at ${info.index}`).toBe(0);
}

describe.each(homes)("a snapshot with the $kind machine", ({ make }) => {
  test("is taken at the applied index and verified, and the log is trimmed to it", async () => {
    const home = await make();
    const node = await home.start();
    await new ActingLeader(node, 1).replicate(putEntries(1, 20));
    const outcome = await node.takeSnapshot({ keepLogBytes: 0 });
    expect(outcome).toMatchObject({ taken: true, snapshot: { index: 20, term: 1 }, logEntriesTrimmed: 20 });
    expect(node.raft.log.boundary).toEqual({ index: 20, term: 1 });
    expect(node.raft.snapshot).toMatchObject({ index: 20, term: 1 });
    await node.snapshots.verify(outcome.snapshot!);
    await expectStateOf(home, outcome.snapshot!);
    expect(await node.takeSnapshot({})).toMatchObject({ taken: false, snapshot: { index: 20 }, logEntriesTrimmed: 0 });
  });

  test("at an exact earlier index equals one taken in its time, byte for byte, several in a row", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 1);
    await leader.replicate(putEntries(1, 30));
    const infos: SnapshotInfo[] = [];
    for (const index of [7, 8, 19]) {
      const { taken, snapshot } = await node.takeSnapshot({ index });
      expect(taken).toBe(true);
      await expectStateOf(home, snapshot!);
      infos.push(snapshot!);
    }
    const inTime = await home.start({ id: "n2", members: ALONE.members });
    await new ActingLeader(inTime, 1).replicate(putEntries(1, 19));
    const other = await inTime.takeSnapshot({});
    expect(other.snapshot?.sha256).toEqual(infos[2]!.sha256);
    expect(await home.leftovers()).toEqual([]);
    expect(node.machine.appliedIndex).toBe(30);
  });

  test("at an exact index is of that index whatever is applied meanwhile", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 1);
    await leader.replicate(putEntries(1, 400));
    if (home instanceof MemoryHome) home.disk.onCall = nextTurn;
    let last = 400;
    const { snapshot } = await during(node.takeSnapshot({ index: 200 }), async () => {
      await leader.replicate(putEntries(last + 1, last + 20));
      last += 20;
    });
    expect(snapshot!.index).toBe(200);
    expect(last).toBeGreaterThan(400);
    await expectStateOf(home, snapshot!);
  });
});

test("a snapshot with a threshold is taken only when the log holds that many entries behind the newest one", async () => {
  const node = await memoryHome().start();
  const leader = new ActingLeader(node, 1);
  expect(await node.takeSnapshot({ thresholdEntries: 0 })).toEqual({
    taken: false,
    snapshot: undefined,
    logEntriesTrimmed: 0,
  });
  await leader.replicate(putEntries(1, 9));
  expect((await node.takeSnapshot({ thresholdEntries: 10 })).taken).toBe(false);
  await leader.replicate(putEntries(10, 10));
  expect(await node.takeSnapshot({ thresholdEntries: 10 })).toMatchObject({ taken: true, snapshot: { index: 10 } });
  await leader.replicate(putEntries(11, 19));
  expect(await node.takeSnapshot({ thresholdEntries: 10 })).toMatchObject({ taken: false, snapshot: { index: 10 } });
  await leader.replicate(putEntries(20, 20));
  expect(await node.takeSnapshot({ thresholdEntries: 10 })).toMatchObject({ taken: true, snapshot: { index: 20 } });
});

test("a snapshot at an index that is not applied yet, or below the newest one, is refused with the numbers", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  await leader.replicate(putEntries(1, 10));
  await leader.append(putEntries(11, 12), 10);
  await failure(
    "OUT_OF_RANGE",
    node.takeSnapshot({ index: 11 }),
    "index 11 is not applied yet: the last applied index is 10",
  );
  await node.takeSnapshot({ index: 8 });
  await failure("OUT_OF_RANGE", node.takeSnapshot({ index: 7 }), /index 7 .* newest snapshot is at index 8/);
  expect(await node.takeSnapshot({ index: 8 })).toMatchObject({ taken: false, snapshot: { index: 8 } });
  expect(await home.snapshotFiles()).toHaveLength(1);
});

test("a snapshot is refused with the reason when the log no longer reaches back because the one before is damaged", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 1).replicate(putEntries(1, 300));
  const { snapshot } = await node.takeSnapshot({ index: 250, keepLogBytes: 0 });
  home.disk.flipBit(snapshot!.path, 200);
  await failure("CORRUPT", node.takeSnapshot({ index: 280 }), /\.snap/);
  await failure("OUT_OF_RANGE", node.takeSnapshot({ index: 280 }), "at index 0, but the log starts at 251");
  // The present state needs neither.
  expect(await node.takeSnapshot({})).toMatchObject({ taken: true, snapshot: { index: 300 } });
  expect(await home.leftovers()).toEqual([]);
});

test("a snapshot that was found damaged is taken again even when nothing new was applied", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 1).replicate(putEntries(1, 10));
  const { snapshot } = await node.takeSnapshot({});
  home.disk.flipBit(snapshot!.path, 100);
  await failure("CORRUPT", node.snapshots.verify(snapshot!));
  const again = await node.takeSnapshot({});
  expect(again).toMatchObject({ taken: true, snapshot: { index: 10 } });
  await node.snapshots.verify(again.snapshot!);
});

test("keepLogBytes keeps at least that many bytes of the log that the snapshot covers", async () => {
  const home = memoryHome();
  const node = await home.start({ trailingLogBytes: 0 });
  const leader = new ActingLeader(node, 1);
  const entries = putEntries(1, 200);
  await leader.replicate(entries);
  const bytes = (first: number) => entries.slice(first - 1).reduce((sum, { data }) => sum + data.byteLength, 0);
  await node.takeSnapshot({ index: 150, keepLogBytes: 4000 });
  const first = node.raft.log.boundary.index + 1;
  // Records have heads, so that the entries' data alone is less.
  expect(bytes(first)).toBeLessThan(4000);
  expect(bytes(first)).toBeGreaterThan(1000);
  expect(first).toBeGreaterThan(1);
  await node.takeSnapshot({ index: 160, keepLogBytes: Number.MAX_SAFE_INTEGER });
  expect(node.raft.log.boundary.index + 1).toBe(first);
  await leader.replicate(putEntries(201, 210));
  await node.takeSnapshot({ keepLogBytes: 0 });
  expect(node.raft.log.boundary.index).toBe(210);
});

test("the log reaches back to the second newest snapshot unless the caller says how much to keep (T7)", async () => {
  const home = memoryHome();
  const node = await home.start({ trailingLogBytes: 0 });
  const leader = new ActingLeader(node, 1);
  const boundaries: number[] = [];
  for (let first = 1; first < 500; first += 100) {
    await leader.replicate(putEntries(first, first + 99));
    await node.takeSnapshot({});
    boundaries.push(node.raft.log.boundary.index);
  }
  expect(boundaries).toEqual([0, 100, 200, 300, 400]);
  expect(node.snapshots.list().map(({ index }) => index)).toEqual([500, 400]);
  // An operator who trims by hand is obeyed.
  expect(await node.compact(0)).toBe(501);
});

test("trimming the log removes segments from the disk", async () => {
  const node = await memoryHome().start();
  const leader = new ActingLeader(node, 1);
  for (let first = 1; first < 2000; first += 100) await leader.replicate(putEntries(first, first + 99));
  const before = node.logStats;
  expect(before.segments).toBeGreaterThan(3);
  await node.takeSnapshot({ keepLogBytes: 0 });
  expect(node.logStats.segments).toBeLessThan(3);
  expect(node.logStats.diskBytes).toBeLessThan(before.diskBytes);
});

test("retention keeps the two newest snapshots", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  for (let last = 10; last <= 40; last += 10) {
    await leader.replicate(putEntries(last - 9, last));
    await node.takeSnapshot({});
  }
  expect(node.snapshots.list().map(({ index }) => index)).toEqual([40, 30]);
  expect(await home.snapshotFiles()).toHaveLength(limits.snapshotsKept);
});

test("a snapshot during 5,000 writes is of exactly one index, and verifies", async () => {
  const home = memoryHome();
  const node = await home.startLeader({ segmentBytes: limits.segmentBytes });
  home.disk.onCall = nextTurn;
  const write = async (first: number) => {
    for (let at = first; at < first + 100; at++) await node.propose(putCommand(`k${at}`, `${at}`));
  };
  const taken: number[] = [];
  await during(Promise.all(Array.from({ length: 50 }, (_, writer) => write(writer * 100))), async () => {
    const { snapshot } = await node.takeSnapshot({ keepLogBytes: limits.trailingLogBytes });
    if (snapshot !== undefined) taken.push(snapshot.index);
  });
  home.disk.onCall = undefined;
  expect(node.machine.appliedIndex).toBe(5001);
  expect(new Set(taken).size).toBeGreaterThan(3);
  const newest = node.snapshots.list().find(({ index }) => index < 5001)!;
  await node.snapshots.verify(newest);
  // Every write has a key of its own: the state at an index holds those that were written up to it.
  const copy = await home.start({ id: "n2" });
  const { file, ...position } = { file: Buffer.from(await home.read(newest.path)), ...newest };
  await new ActingLeader(copy, 1).install({ ...position, file });
  const expected = [...node.machine.range()].filter(({ version }) => version <= newest.index);
  expect([...copy.machine.range()].map(({ version }) => version)).toEqual(expected.map(({ version }) => version));
  expect(expected).toHaveLength(newest.index - 1);
});

test("two concurrent snapshots are taken one after the other", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 1).replicate(putEntries(1, 30));
  const outcomes = await Promise.all([
    node.takeSnapshot({ index: 10 }),
    node.takeSnapshot({ index: 20 }),
    node.takeSnapshot({}),
    node.takeSnapshot({}),
  ]);
  expect(outcomes.map(({ taken }) => taken)).toEqual([true, true, true, false]);
  expect(node.snapshots.list().map(({ index }) => index)).toEqual([30, 20]);
});

test("a snapshot that fails does not prevent the next one", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 1).replicate(putEntries(1, 5));
  const [bad, good] = await Promise.allSettled([node.takeSnapshot({ index: 9 }), node.takeSnapshot({})]);
  expect([bad.status, good.status]).toEqual(["rejected", "fulfilled"]);
});

test("a local snapshot that finishes after a newer one was installed never moves the boundary back (R5)", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  await leader.replicate(putEntries(1, 10));
  const hold = deferred();
  let held = false;
  home.disk.onCall = ({ kind, path }) => {
    if (kind !== "datasync" || !path.endsWith(".part") || held) return;
    held = true;
    return hold.promise;
  };
  const local = node.takeSnapshot({ keepLogBytes: 0 });
  await until(() => held, "the local snapshot is being synced");
  expect((await leader.install(await snapshotOf(putEntries(1, 50)))).outcome).toBe("installed");
  hold.resolve();
  expect(await local).toMatchObject({ snapshot: { index: 50 }, logEntriesTrimmed: 0 });
  expect(node.raft.log.boundary.index).toBe(50);
  expect(node.raft.snapshot?.index).toBe(50);
  await leader.replicate(putEntries(51, 60));
  await home.stop(node);
  const again = await home.start();
  expect(again.raft.log.boundary.index).toBe(50);
  expect(again.machine.appliedIndex).toBe(60);
});

test("a local snapshot that begins while a newer one is being installed is refused, and leaves nothing (R5)", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  await leader.replicate(putEntries(1, 10));
  const hold = holdCalls(home.disk, ({ kind, path }) => kind === "rename" && path.endsWith(".part"));
  const install = leader.install(await snapshotOf(putEntries(1, 50)));
  await hold.reached("the snapshot is being published");
  await failure("FAILED_PRECONDITION", node.takeSnapshot({}), "a newer snapshot was installed");
  hold.resolve();
  expect((await install).outcome).toBe("installed");
  expect(await home.snapshotFiles()).toHaveLength(1);
});

test("an exact-index snapshot over which a newer one is installed fails, and leaves nothing", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  await leader.replicate(putEntries(1, 300));
  await node.takeSnapshot({ index: 100, keepLogBytes: Number.MAX_SAFE_INTEGER });
  const hold = deferred();
  let reading = false;
  home.disk.onCall = ({ kind, path }) => {
    if (kind !== "open" || !path.includes("0100-") || !path.endsWith(".snap") || reading) return;
    reading = true;
    return hold.promise;
  };
  const exact = node.takeSnapshot({ index: 200 });
  await until(() => reading, "the base is being read");
  expect((await leader.install(await snapshotOf(putEntries(1, 500)))).outcome).toBe("installed");
  hold.resolve();
  const error = await exact.then(
    () => undefined,
    (reason) => reason,
  );
  expect(["FAILED_PRECONDITION", "OUT_OF_RANGE"]).toContain(error.code);
  expect(node.snapshots.newest()?.index).toBe(500);
  expect(node.snapshots.list().some(({ index }) => index === 200)).toBe(false);
  expect(await home.leftovers()).toEqual([]);
});
