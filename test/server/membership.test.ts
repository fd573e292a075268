import { describe, expect, test } from "vitest";
import { ProgressState } from "../../gen/cairn/v1/admin_pb.js";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import { deferred, failure, until } from "../support/conditions.js";
import { contentsOf, putCommand } from "../support/nodes/acting_leader.js";
import { Cluster } from "../support/nodes/served_cluster.js";
import { serve } from "../support/nodes/served_node.js";

const THREE = ["n1", "n2", "n3"];

describe("the members of a cluster", () => {
  test("are added as learners, promoted when they have caught up, and removed", async () => {
    const cluster = await Cluster.of(["n1"]);
    const { admin, node } = cluster.get("n1");
    for (let at = 0; at < 20; at++) await node.propose(putCommand(`k${at}`, "1"));
    const added = await admin.addLearner({ nodeId: "n2", address: "n2:1" });
    expect(added.membership?.members).toMatchObject([
      { id: "n1", role: MemberRole.VOTER },
      { id: "n2", address: "n2:1", role: MemberRole.LEARNER },
    ]);
    await failure("FAILED_PRECONDITION", admin.addLearner({ nodeId: "n2", address: "n2:1" }), "is a learner already");
    await failure("FAILED_PRECONDITION", admin.promoteLearner({ nodeId: "n2" }), "has not caught up");
    const second = await cluster.start("n2");
    await until(() => second.node.machine.appliedIndex === node.raft.log.last.index, "the learner has all");
    expect(contentsOf(second.node)).toEqual(contentsOf(node));
    const promoted = await admin.promoteLearner({ nodeId: "n2" });
    expect(promoted.membership?.members.map(({ role }) => role)).toEqual([MemberRole.VOTER, MemberRole.VOTER]);
    const removed = await admin.removeMember({ nodeId: "n2" });
    expect(removed.membership?.members).toMatchObject([{ id: "n1" }]);
    await failure("FAILED_PRECONDITION", admin.removeMember({ nodeId: "n1" }), "n1 is the last voter");
  });

  test("include no leader that removed itself, which still answers, and another one leads", async () => {
    const cluster = await Cluster.of(THREE);
    const { id, admin } = await cluster.leader();
    const { membership } = await admin.removeMember({ nodeId: id });
    expect(membership?.members.map((member) => member.id)).toEqual(THREE.filter((other) => other !== id));
    cluster.members.delete(id);
    expect((await cluster.leader()).id).not.toBe(id);
  });

  test("are changed only by the leader, which a follower names", async () => {
    const cluster = await Cluster.of(THREE);
    const leader = await cluster.leader();
    const { admin } = await cluster.follower();
    for (const call of [
      () => admin.addLearner({ nodeId: "n4", address: "n4:1" }),
      () => admin.promoteLearner({ nodeId: "n4" }),
      () => admin.removeMember({ nodeId: "n3" }),
      () => admin.transferLeadership({}),
    ]) {
      const error = await failure("NOT_LEADER", call, `the leader is ${leader.id}`);
      expect(error.leaderHint).toBe(leader.id);
    }
  });

  test("must have a valid name and address", async () => {
    const { admin } = await serve({ lead: true });
    for (const address of ["", "n4", "n4:", "n4:0", "n4:70000", "http://n4:1", "a b:1", ":7101"]) {
      await failure("INVALID_ARGUMENT", admin.addLearner({ nodeId: "n4", address }), "must be host:port");
    }
    await failure("INVALID_ARGUMENT", admin.addLearner({ nodeId: "n 4", address: "n4:1" }), "member id");
    await failure("INVALID_ARGUMENT", admin.promoteLearner({}), "member id");
    await failure("FAILED_PRECONDITION", admin.removeMember({ nodeId: "n9" }), "n9 is not a member");
    for (const address of ["n4:1", "10.0.0.1:65535", "[::1]:7101"]) {
      await admin.addLearner({ nodeId: "n4", address });
      await admin.removeMember({ nodeId: "n4" });
    }
  });
});

describe("the leadership of a cluster", () => {
  test("is transferred to the named voter, or else to the most caught-up one", async () => {
    const cluster = await Cluster.of(THREE);
    const { id } = await cluster.follower();
    const { admin } = await cluster.leader();
    expect((await admin.transferLeadership({ nodeId: id })).leaderId).toBe(id);
    const next = await cluster.leader();
    expect(next.id).toBe(id);
    expect((await next.admin.transferLeadership({ nodeId: id })).leaderId).toBe(id);
    const { leaderId } = await next.admin.transferLeadership({});
    expect(leaderId).not.toBe(id);
    expect((await cluster.leader()).id).toBe(leaderId);
  });

  test("is not transferred to a node that does not vote, or does not answer", async () => {
    const cluster = await Cluster.of(THREE);
    const { admin, node } = await cluster.leader();
    await failure("FAILED_PRECONDITION", admin.transferLeadership({ nodeId: "n9" }), "n9 is not a voter");
    const { id } = await cluster.follower();
    await cluster.crash(id);
    await node.propose(putCommand("a", "1"));
    await failure("FAILED_PRECONDITION", admin.transferLeadership({ nodeId: id }), `${id} did not take over`);
    await node.propose(putCommand("a", "2"));
  });
});

test("GetStatus names the founding members, and on the leader the progress of each", async () => {
  const cluster = await Cluster.of(THREE);
  const { id, admin, node } = await cluster.leader();
  await node.propose(putCommand("a", "1"));
  const last = BigInt(node.raft.log.last.index);
  await until(() => node.raft.progress.every(({ match }) => BigInt(match) === last), "both have all");
  const status = await admin.getStatus({});
  expect(status.bootstrapMembers?.members.map((member) => `${member.id} ${member.address}`)).toEqual(
    THREE.map((each) => `${each} ${each}:1`),
  );
  expect(status.progress).toMatchObject(
    THREE.filter((each) => each !== id).map((nodeId) => ({
      nodeId,
      matchIndex: last,
      nextIndex: last + 1n,
      state: ProgressState.REPLICATE,
      active: true,
    })),
  );
  expect((await (await cluster.follower()).admin.getStatus({})).progress).toEqual([]);
});

test("ListTransfers shows a snapshot in transit at both ends", async () => {
  const cluster = await Cluster.of(THREE, { trailingLogBytes: 0, snapshotChunkBytes: 16 * 1024 });
  const { id } = await cluster.follower();
  await cluster.crash(id);
  const { admin, node } = await cluster.leader();
  for (let at = 0; at < 20; at++) await node.propose(putCommand(`k${at}`, new Uint8Array(10_000)));
  const { snapshot } = await admin.takeSnapshot({ keepLogBytes: 0n });
  // Held at its first chunks.
  const hold = deferred();
  cluster.home.disk.onCall = ({ kind, path }) =>
    kind === "write" && path.startsWith(`/data/${id}/snapshots/`) ? hold.promise : undefined;
  const back = await cluster.start(id, { trailingLogBytes: 0 });
  await until(() => back.node.receiver.transfer !== undefined, "the transfer has begun");
  expect(await admin.listTransfers({})).toMatchObject({
    transfers: [{ id: `to-${id}-${snapshot!.index}`, peerId: id, sending: true, index: snapshot!.index }],
  });
  expect((await admin.listTransfers({})).transfers[0]).toMatchObject({ totalBytes: snapshot!.fileBytes });
  expect(await back.admin.listTransfers({})).toMatchObject({
    transfers: [{ peerId: node.id, sending: false, index: snapshot!.index, totalBytes: snapshot!.fileBytes }],
  });
  hold.resolve();
  await until(() => back.node.machine.appliedIndex >= Number(snapshot!.index), "it is installed");
  await until(() => node.transfers.length === 0 && back.node.receiver.transfer === undefined, "the transfer has ended");
  expect((await admin.listTransfers({})).transfers).toEqual([]);
});
