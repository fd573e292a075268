import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { MemberRole, MembershipSchema } from "../../gen/cairn/v1/storage_pb.js";
import { SnapshotParser } from "../../src/encoding/snapshot_parser.js";
import type { Membership } from "../../src/raft/types.js";
import { failure } from "../support/conditions.js";
import { ActingLeader, ALONE, configurationEntry, putEntries, snapshotOf } from "../support/nodes/acting_leader.js";
import { homes, memoryHome } from "../support/nodes/nodes.js";

const three: Membership = [
  ...ALONE.members,
  { id: "n2", address: "n2:7101", role: "voter" },
  { id: "n9", address: "n9:7101", role: "voter" },
];
const two: Membership = three.slice(0, 2);

/** What a snapshot file says of the membership. */
function membershipIn(file: Uint8Array) {
  const parser = new SnapshotParser("the snapshot");
  parser.push(file);
  return parser.header!.meta.membership;
}

describe.each(homes)("a membership with the $kind machine (R10)", ({ make }) => {
  test("is in force at once, and survives trimming, a restart and the next snapshot", async () => {
    const home = await make();
    const node = await home.start();
    const leader = new ActingLeader(node, 1);
    await leader.append([...putEntries(1, 3), configurationEntry(4, 1, two), configurationEntry(5, 1, three)], 0);
    // Not committed, but in force.
    expect(node.raft.membership).toEqual({ index: 5, members: three });
    await leader.replicate(putEntries(6, 20));
    const first = await node.takeSnapshot({ keepLogBytes: 0 });
    expect(node.raft.log.boundary.index).toBe(20);
    expect(membershipIn(await home.read(first.snapshot!.path))).toEqual({ index: 5, members: three });
    await home.stop(node);
    const again = await home.start();
    expect(again.raft.membership).toEqual({ index: 5, members: three });
    await new ActingLeader(again, 1).replicate(putEntries(21, 30));
    const second = await again.takeSnapshot({ keepLogBytes: 0 });
    expect(second.snapshot?.index).toBe(30);
    expect(membershipIn(await home.read(second.snapshot!.path))).toEqual({ index: 5, members: three });
  });
});

test("a snapshot at an index below a configuration holds exactly the membership before it", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 1).replicate([
    ...putEntries(1, 4),
    configurationEntry(5, 1, two),
    ...putEntries(6, 9),
    configurationEntry(10, 1, three),
    ...putEntries(11, 12),
  ]);
  for (const [index, expected] of [
    [4, ALONE],
    [9, { index: 5, members: two }],
    [10, { index: 10, members: three }],
  ] as const) {
    const { snapshot } = await node.takeSnapshot({ index });
    expect(membershipIn(await home.read(snapshot!.path))).toEqual(expected);
  }
});

test("a configuration that is truncated is no longer in force", async () => {
  const home = memoryHome();
  const node = await home.start();
  await new ActingLeader(node, 1).append([...putEntries(1, 4), configurationEntry(5, 1, two)], 4);
  expect(node.raft.membership).toEqual({ index: 5, members: two });
  await new ActingLeader(node, 2).append(putEntries(5, 5, 2), 5, { index: 4, term: 1 });
  expect(node.raft.membership).toEqual(ALONE);
  await home.stop(node);
  expect((await home.start()).raft.membership).toEqual(ALONE);
});

test("an installed snapshot brings its membership, and a later one in the log behind it stays in force", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  await leader.append([...putEntries(1, 24), configurationEntry(25, 1, two)], 3);
  const snapshot = await snapshotOf(putEntries(1, 20), { membership: { index: 7, members: three } });
  expect((await leader.install(snapshot)).outcome).toBe("installed");
  expect(node.raft.membership).toEqual({ index: 25, members: two });
  await home.stop(node);
  const again = await home.start();
  expect(again.raft.membership).toEqual({ index: 25, members: two });
  // Cut off, the snapshot's is in force.
  await new ActingLeader(again, 2).append(putEntries(21, 21, 2), 21, { index: 20, term: 1 });
  expect(again.raft.membership).toEqual({ index: 7, members: three });
});

test("a configuration that no snapshot could hold never gets into the log", async () => {
  const home = memoryHome();
  const node = await home.start();
  const leader = new ActingLeader(node, 1);
  await leader.replicate(putEntries(1, 2));
  const message = (...ids: string[]) =>
    toBinary(
      MembershipSchema,
      create(MembershipSchema, { members: ids.map((id) => ({ id, role: MemberRole.VOTER })) }),
    );
  const wrong = [message("n2", "n1"), message("n1", "n1"), message("n 1"), message(), Uint8Array.of(255)];
  for (const data of wrong) {
    const answer = await leader.append([{ index: 3, term: 1, type: "configuration", data }]);
    expect(answer).toMatchObject({ rejection: { reason: "safety" } });
    expect(node.raft.log.last.index).toBe(2);
  }
  const right = { index: 3, term: 1, type: "configuration", data: message("n1", "n2") } as const;
  expect(await leader.append([right], 3)).toMatchObject({ matchIndex: 3 });
  await node.waitApplied(3);
  expect((await node.takeSnapshot({})).taken).toBe(true);
});

test("a node that is not a voter does not campaign", async () => {
  const node = await memoryHome().start();
  await new ActingLeader(node, 1).replicate([configurationEntry(1, 1, two), configurationEntry(2, 1, [two[1]!])]);
  await failure("FAILED_PRECONDITION", node.campaign(), "node n1 is not a voter");
});
