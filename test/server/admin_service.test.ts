import { describe, expect, test } from "vitest";
import { ElectionMode, NodeRole, SnapshotReason } from "../../gen/cairn/v1/admin_pb.js";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../src/base/limits.js";
import { version } from "../../src/base/version.js";
import { failure, isLasting, isSettled, ManualClock, until, untilAsync } from "../support/conditions.js";
import { ActingLeader, putCommand, putEntries } from "../support/nodes/acting_leader.js";
import { memoryHome } from "../support/nodes/nodes.js";
import { collect, serve } from "../support/nodes/served_node.js";

test("GetStatus returns the node's identity and its positions", async () => {
  const { admin, node } = await serve();
  expect(await admin.getStatus({})).toMatchObject({
    clusterId: "cluster-1",
    nodeId: "n1",
    version,
    role: NodeRole.FOLLOWER,
    term: 0n,
    leaderId: "",
    lastLogIndex: 0n,
    electionMode: ElectionMode.MANUAL,
    diskFull: false,
    membershipIndex: 0n,
    membership: { members: [{ id: "n1", role: MemberRole.VOTER }] },
    recovery: { snapshotIndex: 0n, stateRebuilt: false, replayedEntries: 0n, tornBytes: 0n },
  });
  await new ActingLeader(node, 4).append(putEntries(1, 10, 4), 8);
  await node.waitApplied(8);
  await admin.takeSnapshot({});
  const status = await admin.getStatus({});
  expect(status).toMatchObject({
    term: 4n,
    leaderId: "n9",
    commitIndex: 8n,
    appliedIndex: 8n,
    lastLogIndex: 10n,
    snapshotIndex: 8n,
  });
  expect((await admin.campaign({})).term).toBe(5n);
  expect((await admin.getStatus({})).role).toBe(NodeRole.LEADER);
});

test("GetLogInfo returns the extent of the log, even when a future index is being waited for", async () => {
  const { admin, node } = await serve();
  expect(await admin.getLogInfo({})).toMatchObject({
    firstIndex: 1n,
    lastIndex: 0n,
    totalEntries: 0n,
    terms: [{ firstIndex: 0n, term: 0n }],
  });
  await new ActingLeader(node, 2).replicate(putEntries(1, 5, 2));
  await new ActingLeader(node, 3).replicate(putEntries(6, 9, 3));
  await admin.takeSnapshot({ trigger: { case: "index", value: 4n }, keepLogBytes: 0n });
  const info = await admin.getLogInfo({});
  expect(info).toMatchObject({
    lastIndex: 9n,
    lastTerm: 3n,
    snapshotIndex: 4n,
    snapshotTerm: 2n,
    totalEntries: 5n,
    commitIndex: 9n,
    appliedIndex: 9n,
    term: 3n,
    firstIndex: 5n,
    segments: 1,
    terms: [
      { firstIndex: 4n, term: 2n },
      { firstIndex: 6n, term: 3n },
    ],
  });
  expect(info.diskBytes).toBeGreaterThan(0n);
  const later = admin.getLogInfo({ minAppliedIndex: 10n });
  expect(await isSettled(later)).toBe(false);
  await new ActingLeader(node, 3).replicate(putEntries(10, 10, 3));
  expect((await later).appliedIndex).toBe(10n);
  await failure("TIMEOUT", admin.getLogInfo({ minAppliedIndex: 99n }, { timeoutMs: 50 }));
  await failure("INVALID_ARGUMENT", admin.getLogInfo({ minAppliedIndex: 2n ** 63n }), "min_applied_index");
});

describe("TakeSnapshot", () => {
  test("takes a snapshot for each trigger, and says why when it takes none", async () => {
    const { admin, node } = await serve();
    expect(await admin.takeSnapshot({})).toMatchObject({ taken: false, logEntriesTrimmed: 0n });
    await new ActingLeader(node, 1).replicate(putEntries(1, 10));
    const threshold = (value: bigint) => ({ trigger: { case: "thresholdEntries", value } }) as const;
    expect((await admin.takeSnapshot(threshold(11n))).taken).toBe(false);
    const exact = await admin.takeSnapshot({ trigger: { case: "index", value: 6n }, keepLogBytes: 0n });
    expect(exact).toMatchObject({ taken: true, snapshot: { index: 6n, term: 1n }, logEntriesTrimmed: 6n });
    expect((await admin.takeSnapshot(threshold(5n))).taken).toBe(false);
    expect(await admin.takeSnapshot(threshold(4n))).toMatchObject({ taken: true, snapshot: { index: 10n } });
    const same = await admin.takeSnapshot({});
    expect(same).toMatchObject({ taken: false, snapshot: { index: 10n } });
    expect(same.snapshot!.sha256).toHaveLength(32);
    const { snapshots } = await admin.listSnapshots({});
    expect(snapshots.map(({ index }) => index)).toEqual([10n, 6n]);
    expect(snapshots[0]).toEqual(same.snapshot);
  });

  test("answers OUT_OF_RANGE for an index that is not applied yet, or trimmed", async () => {
    const { admin, node } = await serve();
    await new ActingLeader(node, 1).replicate(putEntries(1, 10));
    const at = (value: bigint) => admin.takeSnapshot({ trigger: { case: "index", value } });
    await failure("OUT_OF_RANGE", at(11n), "last applied index is 10");
    await at(8n);
    await failure("OUT_OF_RANGE", at(7n), "newest snapshot is at index 8");
    await failure("INVALID_ARGUMENT", at(2n ** 60n), "index is");
    await failure("INVALID_ARGUMENT", admin.takeSnapshot({ keepLogBytes: 2n ** 60n }), "keep_log_bytes");
  });
});

describe("DownloadSnapshot", () => {
  test("streams the file, byte for byte, in pieces", async () => {
    const { admin, node, home } = await serve({ lead: true });
    for (let at = 0; at < 12; at++) await node.propose(putCommand(`k${at}`, new Uint8Array(60_000).fill(at)));
    await failure("NOT_FOUND", collect(admin.downloadSnapshot({})), "there is no snapshot");
    const { snapshot } = await node.takeSnapshot({});
    const parts = await collect(admin.downloadSnapshot({}));
    expect(parts[0]!.info).toMatchObject({ index: 13n, fileBytes: BigInt(snapshot!.fileBytes) });
    expect(
      parts.slice(1).every(({ info, data }) => info === undefined && data.byteLength <= limits.snapshotChunkBytes),
    ).toBe(true);
    const file = Buffer.concat(parts.map(({ data }) => data));
    expect(Buffer.compare(file, home.disk.contents(snapshot!.path))).toBe(0);
    expect(parts.length).toBeGreaterThan(3);
    const byIndex = await collect(admin.downloadSnapshot({ index: 13n }));
    expect(Buffer.compare(Buffer.concat(byIndex.map(({ data }) => data)), file)).toBe(0);
    await failure(
      "NOT_FOUND",
      collect(admin.downloadSnapshot({ index: 12n })),
      "no snapshot at index 12: there are 13",
    );
  });

  test("ends with DATA_LOSS before a bad piece, and the damaged file is no longer listed", async () => {
    const { admin, node, home } = await serve({ lead: true });
    for (let at = 0; at < 12; at++) await node.propose(putCommand(`k${at}`, new Uint8Array(60_000).fill(at)));
    const { snapshot } = await node.takeSnapshot({});
    const whole = Buffer.from(home.disk.contents(snapshot!.path));
    home.disk.flipBit(snapshot!.path, snapshot!.fileBytes - 100_000);
    const received: Uint8Array[] = [];
    const download = async () => {
      for await (const { data } of admin.downloadSnapshot({})) received.push(data);
    };
    const error = await failure("CORRUPT", download);
    expect(error.message).toContain(".snap");
    const got = Buffer.concat(received);
    expect(Buffer.compare(got, whole.subarray(0, got.byteLength))).toBe(0);
    expect(got.byteLength).toBeLessThanOrEqual(snapshot!.fileBytes - 100_000);
    expect((await admin.listSnapshots({})).snapshots).toEqual([]);
  });

  test("keeps the file from retention for a slow reader", async () => {
    const { admin, node } = await serve({ lead: true });
    for (let at = 0; at < 40; at++) await node.propose(putCommand(`k${at}`, new Uint8Array(60_000).fill(at)));
    const { snapshot } = await node.takeSnapshot({});
    const parts = admin.downloadSnapshot({})[Symbol.asyncIterator]();
    await parts.next();
    for (let at = 0; at < 3; at++) {
      await node.propose(putCommand("more", `${at}`));
      await node.takeSnapshot({});
    }
    const rest = await collect({ [Symbol.asyncIterator]: () => parts });
    expect(rest.reduce((sum, { data }) => sum + data.byteLength, 0)).toBe(snapshot!.fileBytes);
    await node.snapshots.retain();
    expect(node.snapshots.list()).toHaveLength(limits.snapshotsKept);
  });

  test("serves a few readers at a time, and names the limit to the next", async () => {
    const { admin, node } = await serve({ lead: true });
    for (let at = 0; at < 60; at++) await node.propose(putCommand(`k${at}`, new Uint8Array(60_000).fill(at)));
    await node.takeSnapshot({});
    const readers = Array.from({ length: limits.downloads }, () => admin.downloadSnapshot({})[Symbol.asyncIterator]());
    for (const reader of readers) await reader.next();
    await failure("BUSY", collect(admin.downloadSnapshot({})), "limit downloads");
    await readers[0]!.return?.();
    await untilAsync(async () => {
      const [first] = await collect(admin.downloadSnapshot({})).catch(() => []);
      return first !== undefined;
    }, "the place of a reader that has left is free");
  });

  test("releases the file when its reader leaves", async () => {
    const { admin, node, home } = await serve({ lead: true });
    for (let at = 0; at < 60; at++) await node.propose(putCommand(`k${at}`, new Uint8Array(60_000).fill(at)));
    await node.takeSnapshot({});
    for await (const _ of admin.downloadSnapshot({})) break;
    await until(() => !home.disk.openFiles.some((path) => path.endsWith(".snap")), "the file is closed");
  });
});

test("Campaign says why the node cannot campaign", async () => {
  const members = ["n1", "n2"].map((id) => ({ id, address: "", role: "voter" as const }));
  const lonely = await serve({ members, tickMs: 10 });
  await failure("NOT_LEADER", lonely.admin.campaign({}), "no majority of the voters n1, n2 voted for it");
  const learner = await serve({
    members: members.map((each) => (each.id === "n1" ? { ...each, role: "learner" } : each)),
  });
  await failure("FAILED_PRECONDITION", learner.admin.campaign({}), "node n1 is not a voter");
});

describe("Compact", () => {
  test("trims up to an index, or to the end of the newest snapshot, whatever the log is to keep", async () => {
    const { admin, node } = await serve();
    await new ActingLeader(node, 1).replicate(putEntries(1, 30));
    expect((await admin.compact({})).firstIndex).toBe(1n);
    await failure("OUT_OF_RANGE", admin.compact({ index: 1n }), "up to index 1: there is no snapshot");
    await admin.takeSnapshot({ trigger: { case: "index", value: 20n } });
    expect((await admin.getLogInfo({})).firstIndex).toBe(1n);
    expect((await admin.compact({ index: 7n })).firstIndex).toBe(8n);
    expect((await admin.getLogInfo({})).firstIndex).toBe(8n);
    expect((await admin.compact({ index: 3n })).firstIndex).toBe(8n);
    await failure("OUT_OF_RANGE", admin.compact({ index: 21n }), "the newest snapshot is at index 20");
    expect((await admin.compact({})).firstIndex).toBe(21n);
    await new ActingLeader(node, 1).replicate(putEntries(31, 35));
    expect(node.machine.appliedIndex).toBe(35);
  });

  test("is durable when it is answered, even when no segment is removed", async () => {
    const home = memoryHome();
    const { admin, node } = await serve({ segmentBytes: limits.segmentBytes }, home);
    await new ActingLeader(node, 1).replicate(putEntries(1, 30));
    await admin.takeSnapshot({});
    expect((await admin.compact({ index: 11n })).firstIndex).toBe(12n);
    const after = await home.powerCut("none");
    const again = await after.start();
    expect(again.raft.log.boundary.index).toBe(11);
    await after.stop(again);
  });

  test("does not trim under a snapshot that was found damaged", async () => {
    const { admin, node, home } = await serve();
    await new ActingLeader(node, 1).replicate(putEntries(1, 30));
    await admin.takeSnapshot({});
    const info = node.snapshots.newest()!;
    home.disk.flipBit(info.path, 200);
    await failure("CORRUPT", node.snapshots.verify(info));
    await failure("OUT_OF_RANGE", admin.compact({ index: 30n }), "there is no snapshot");
    expect((await admin.compact({})).firstIndex).toBe(1n);
    const { warnings } = await admin.getStatus({});
    expect(warnings.filter(isLasting)).toEqual([expect.stringContaining(`${info.path} must not be used: `)]);
  });
});

test("GetStatus says why, when and how the newest snapshot was taken", async () => {
  const clock = new ManualClock();
  const snapshots = { entries: 10, ageMs: 60_000 };
  const { admin, node, home } = await serve({ clock, snapshots, unixMs: () => 1_800_000_000_123.4 });
  const leader = new ActingLeader(node, 1);
  const last = async () => (await admin.getStatus({})).lastSnapshot;
  expect(await last()).toBeUndefined();
  await leader.replicate(putEntries(1, 9));
  expect(await last()).toBeUndefined();
  await leader.replicate(putEntries(10, 10));
  await until(() => node.snapshotting.last?.index === 10, "ten entries are enough");
  const { fileBytes } = node.snapshots.newest()!;
  expect(await last()).toMatchObject({
    index: 10n,
    reason: SnapshotReason.ENTRIES,
    finishedUnixMs: 1_800_000_000_123n,
    durationMs: 0n,
    fileBytes: BigInt(fileBytes),
  });
  await leader.replicate(putEntries(11, 12));
  home.disk.onCall = ({ kind, path }) => {
    if (kind === "rename" && path.endsWith(".part")) clock.advance(7);
  };
  clock.advance(60_000);
  await until(() => node.snapshotting.last?.index === 12, "a minute is enough");
  home.disk.onCall = undefined;
  expect(await last()).toMatchObject({ index: 12n, reason: SnapshotReason.AGE, durationMs: 7n });
  await leader.replicate(putEntries(13, 14));
  await admin.takeSnapshot({});
  expect(await last()).toMatchObject({ index: 14n, reason: SnapshotReason.REQUESTED });
});
