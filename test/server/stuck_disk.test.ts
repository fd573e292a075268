import { expect, onTestFinished, test } from "vitest";
import { HealthVerdict } from "../../gen/cairn/v1/admin_pb.js";
import { deferred, failure, until } from "../support/conditions.js";
import { putCommand, readValue } from "../support/nodes/acting_leader.js";
import { Cluster, type ServedMember } from "../support/nodes/served_cluster.js";

// Members over real gRPC, one of which has a disk whose syncs do not end.

const THREE = ["n1", "n2", "n3"];

/**
 * From now on no sync of this member's log ends, until it is released, which it is when the test
 * ends at the latest.
 */
function hang(cluster: Cluster, { id }: ServedMember) {
  const hold = deferred();
  let held = 0;
  cluster.home.disk.onCall = ({ kind, path }) => {
    if (kind !== "datasync" || !path.startsWith(`/data/${id}/wal/`)) return undefined;
    held += 1;
    return hold.promise;
  };
  onTestFinished(() => hold.resolve());
  return { release: hold.resolve, reached: () => until(() => held > 0, "a sync hangs") };
}

async function statusOf(member: ServedMember) {
  const status = await member.admin.getStatus({});
  return { ...status, own: status.health.find(({ nodeId }) => nodeId === member.id) };
}

/** Another one than this leads, and has committed an entry. */
function successor(cluster: Cluster, { id }: ServedMember): ServedMember | undefined {
  return [...cluster.members.values()].find((member) => member.id !== id && member.node.raft.isEstablishedLeader);
}

test("a leader whose disk is stuck says so and hands over; writes continue, and it does not win leadership back (T8)", async () => {
  const cluster = await Cluster.of(THREE);
  const leader = await cluster.leader();
  await leader.node.propose(putCommand("before", "1"));
  const { term } = leader.node.raft;
  const disk = hang(cluster, leader);
  // The write is committed by the others; the caller is not left waiting for this disk.
  const write = failure(
    "OUTCOME_UNKNOWN",
    leader.node.propose(putCommand("k", "1")),
    "its disk does not complete writes of the log",
  );
  await disk.reached();
  await until(() => successor(cluster, leader) !== undefined, "another one leads");
  const next = successor(cluster, leader)!;
  await write;
  expect(readValue(next.node, "k")).toBe("1");
  await next.node.propose(putCommand("after", "1"));
  await next.node.linearizableRead();
  expect(readValue(next.node, "after")).toBe("1");

  const { own, warnings, logSync } = await statusOf(leader);
  expect(own).toMatchObject({ verdict: HealthVerdict.STUCK_DISK });
  expect(own!.reason).toMatch(/^a write of the log has been in progress for \d+ m?s: the disk does not complete it/);
  expect(warnings[0]).toMatch(/^a write of the log has been in progress for \d+ m?s/);
  expect(logSync!.underWayMs).toBeGreaterThanOrEqual(200);
  expect(logSync!.maxMs).toBeGreaterThanOrEqual(200);
  // It cannot be made the leader while it is so.
  const refusal = "a write to its log has not ended for longer than an election timeout";
  await failure("FAILED_PRECONDITION", leader.node.campaign(), refusal);
  await failure("FAILED_PRECONDITION", next.node.transferLeadership(leader.id));
  expect(leader.node.raft.role).not.toBe("leader");

  disk.release();
  await until(() => leader.node.machine.appliedIndex === next.node.raft.log.last.index, "it has caught up");
  expect(leader.node.raft.term).toBeGreaterThan(term);
  expect(readValue(leader.node, "after")).toBe("1");
  expect((await statusOf(leader)).own?.verdict).not.toBe(HealthVerdict.STUCK_DISK);
});

test("a follower whose disk is stuck says so, and its leader says that it does not answer (T8)", async () => {
  const cluster = await Cluster.of(THREE);
  const leader = await cluster.leader();
  const follower = await cluster.follower();
  const disk = hang(cluster, follower);
  await leader.node.propose(putCommand("k", "1"));
  await disk.reached();
  const verdictOf = async () => (await leader.admin.getStatus({})).health.find(({ nodeId }) => nodeId === follower.id);
  let seen = await verdictOf();
  while (seen?.verdict !== HealthVerdict.SILENT) seen = await verdictOf();
  expect(seen.reason).toMatch(/^it has not answered the leader for \d+ m?s$/);
  await leader.node.propose(putCommand("k", "2"));
  expect((await statusOf(follower)).own?.verdict).toBe(HealthVerdict.STUCK_DISK);
  disk.release();
  await until(() => follower.node.machine.appliedIndex === leader.node.raft.log.last.index, "it has caught up");
});
