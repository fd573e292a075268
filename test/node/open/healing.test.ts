import { expect, test } from "vitest";
import type { MissingSnapshot, SnapshotSource } from "../../../src/node/open/healing.js";
import type { KeyValueNode } from "../../../src/server/kv/key_value_node.js";
import { failure } from "../../support/conditions.js";
import {
  ActingLeader,
  configurationEntry,
  contentsOf,
  putEntries,
  type SnapshotFile,
  snapshotOf,
} from "../../support/nodes/acting_leader.js";
import { memoryHome } from "../../support/nodes/nodes.js";

/** A node that has stopped with snapshots at 20 and 40 and a log from 41 to 60; it has voted for n7 in term 5. */
async function stoppedNode() {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 2);
  for (let first = 1; first <= 60; first += 10) await leader.replicate(putEntries(first, first + 9, 2));
  await node.takeSnapshot({ index: 20, keepLogBytes: 0 });
  await node.takeSnapshot({ index: 40, keepLogBytes: 0 });
  const vote = {
    type: "request_vote",
    preVote: false,
    leadershipTransfer: false,
    last: { index: 99, term: 4 },
  } as const;
  await node.requestVote({ ...vote, from: "n7", term: 5 });
  const newest = node.snapshots.newest()!;
  await home.stop(node);
  const file = Buffer.from(home.disk.contents(newest.path));
  return { home, path: newest.path, good: { index: 40, term: 2, file, sha256: newest.sha256 } };
}

/** Has one snapshot, and what it was asked for. */
function sourceOf({ index, term, file, sha256 }: SnapshotFile) {
  const asked: MissingSnapshot[] = [];
  const source: SnapshotSource = async (missing, take) => {
    asked.push(missing);
    const pieces = async function* () {
      for (let at = 0; at < file.byteLength; at += 500) yield file.subarray(at, at + 500);
    };
    await take({ index, term, fileBytes: file.byteLength, sha256 }, pieces());
  };
  return { source, asked };
}

async function expectPromisesKept(node: KeyValueNode): Promise<void> {
  expect(node.raft.term).toBe(5);
  const again = {
    type: "request_vote",
    preVote: false,
    leadershipTransfer: false,
    last: { index: 999, term: 4 },
  } as const;
  expect(await node.requestVote({ ...again, from: "n8", term: 5 })).toMatchObject({ granted: false });
}

test.each([
  ["in its payload", (bytes: number) => bytes >> 1],
  ["in its header", () => 20],
  ["in its trailer", (bytes: number) => bytes - 3],
])(
  "a snapshot that is damaged %s is fetched from another member, and the log behind it is kept",
  async (_where, offset) => {
    const { home, path, good } = await stoppedNode();
    home.disk.flipBit(path, offset(good.file.byteLength));
    const { source, asked } = sourceOf(good);
    const node = await home.start({ snapshotSource: source });
    expect(asked).toMatchObject([{ nodeId: "n1", clusterId: "cluster-1", leastIndex: 40, members: [{ id: "n1" }] }]);
    expect(asked[0]!.refusal.text).toContain(path);
    expect(node.machine.appliedIndex).toBe(60);
    expect(contentsOf(node)).toHaveLength(60);
    expect(node.snapshots.damaged()).toEqual([]);
    await node.snapshots.verify(node.snapshots.newest()!);
    expect(node.raft.log.boundary).toEqual({ index: 40, term: 2 });
    await expectPromisesKept(node);
    await home.stop(node);
    await home.start();
  },
);

test("a lost snapshot is replaced by a newer one that ends past the log, and the log starts behind it", async () => {
  const { home, path } = await stoppedNode();
  await home.disk.unlink(path);
  const { source } = sourceOf(await snapshotOf(putEntries(1, 500, 3)));
  const node = await home.start({ snapshotSource: source });
  expect(node.raft.log.boundary).toEqual({ index: 500, term: 3 });
  expect(contentsOf(node)).toHaveLength(500);
  await expectPromisesKept(node);
});

test("a replacement for a lost snapshot is requested from all members that the disk knows, at their newest addresses", async () => {
  const home = memoryHome();
  const member = (id: string, address: string) => ({ id, address, role: "voter" }) as const;
  const node = await home.start({ members: [member("n1", "h1:1"), member("n2", "h2:1")] });
  const leader = new ActingLeader(node, 2);
  await leader.replicate(putEntries(1, 10, 2));
  await node.takeSnapshot({ keepLogBytes: 0 });
  const path = node.snapshots.newest()!.path;
  const members = [member("n1", "h1:1"), member("n2", "h2:2"), member("n3", "h3:1")];
  const moved = [member("n1", "h1:1"), member("n2", "h2:2")];
  await leader.replicate([configurationEntry(11, 2, moved), configurationEntry(12, 2, members)]);
  await home.stop(node);
  await home.disk.unlink(path);
  let found: MissingSnapshot | undefined;
  const source: SnapshotSource = async (missing) => {
    found = missing;
    throw missing.refusal;
  };
  await failure("CORRUPT", home.start({ snapshotSource: source }), "there is a hole");
  expect(found!.members).toEqual(members);
});

test("a replacement snapshot is refused when it is too old, damaged, or of another history or cluster", async () => {
  const { home, path, good } = await stoppedNode();
  home.disk.flipBit(path, 300);
  // The first start, whatever it comes to, takes note of the stop mark.
  const present = async () => (await home.files()).filter((each) => !/lock|stopped\.json$/.test(each));
  const before = await present();
  const refuses = async (code: Parameters<typeof failure>[0], snapshot: SnapshotFile, text: RegExp) => {
    await failure(code, home.start({ snapshotSource: sourceOf(snapshot).source }), text);
    await home.expectNoLeaks();
    expect(await present()).toEqual(before);
  };
  await refuses(
    "INVALID_ARGUMENT",
    await snapshotOf(putEntries(1, 39, 2)),
    /at index 39 does not reach the log, .* index 40/,
  );
  await refuses(
    "CORRUPT",
    await snapshotOf(putEntries(1, 40, 3)),
    /of term 3 is offered, but the entry committed there is of term 2/,
  );
  await refuses(
    "CORRUPT",
    await snapshotOf(putEntries(1, 50, 3)),
    /of term 3 is offered, but the entry committed there is of term 2/,
  );
  await refuses(
    "WRONG_CLUSTER",
    await snapshotOf(putEntries(1, 40, 2), { clusterId: "another" }),
    /is of cluster another/,
  );
  const damaged = Buffer.from(good.file);
  damaged[400]! ^= 1;
  await refuses("CORRUPT", { ...good, file: damaged }, /is damaged at offset/);
  await refuses("CORRUPT", { ...good, file: good.file.subarray(0, -9) }, /the file ends here/);
  // Nothing of that has spoilt it.
  expect(contentsOf(await home.start({ snapshotSource: sourceOf(good).source }))).toHaveLength(60);
});

test("no member is asked when the disk has all that the start needs", async () => {
  const { home, good } = await stoppedNode();
  const { source, asked } = sourceOf(good);
  await home.start({ snapshotSource: source });
  expect(asked).toEqual([]);
});
