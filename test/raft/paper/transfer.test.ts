import { describe, expect, test } from "vitest";
import { append, ask, bytes, settle, startLeaderOf, startNode, timeoutNow, voters } from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isTo, type MemberSetup } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
function led(setup: MemberSetup = {}) {
  const cluster = new Cluster(ids, setup);
  cluster.elect("n1");
  return cluster;
}

const isTimeoutNow = ({ message }: { message: { type: string } }) => message.type === "timeout_now";

describe("thesis section 3.10, leadership transfer", () => {
  test("1. the leader accepts no more proposals from clients", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    expect(cluster.raft("n1").propose(bytes("a"))).toEqual({ refused: "transferring" });
    expect(cluster.raft("n1").changeMembership({ type: "remove", id: "n3" })).toHaveProperty("impossible");
  });

  test("2. the leader first brings the target's log up to its own by ordinary replication", () => {
    const cluster = led();
    cluster.propose("n1", "a");
    cluster.drop(isTo("n2"));
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    expect(cluster.flights(isTimeoutNow)).toEqual([]);
    cluster.pass(2);
    expect(cluster.raft("n2").log.termAt(2)).toBe(1);
    expect(cluster.leaders).toEqual(["n2"]);
  });

  test("3. the leader then tells the target, which starts an election at once, as if its timer had fired", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    expect(cluster.flights(isTimeoutNow).map(({ to }) => to)).toEqual(["n2"]);
    cluster.deliver(isTimeoutNow);
    expect([cluster.raft("n2").role, cluster.raft("n2").term]).toEqual(["candidate", 2]);
  });

  test("3. the target skips the pre-vote, and voters that hear from the leader vote on the leader's word", () => {
    const cluster = led({ elections: "automatic" });
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    cluster.deliver(isTimeoutNow);
    expect(cluster.flights(isFrom("n2")).map(({ message }) => message)).toContainEqual(
      expect.objectContaining({ type: "request_vote", preVote: false, leadershipTransfer: true }),
    );
    cluster.deliver();
    expect(cluster.leaders).toEqual(["n2"]);
  });

  test("the old leader steps down when it hears from the target, whose term is higher", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    cluster.deliver(isTimeoutNow);
    cluster.deliver((flight) => isTo("n1")(flight) && flight.message.type === "request_vote");
    expect([cluster.raft("n1").role, cluster.raft("n1").term, cluster.raft("n1").transferTarget]).toEqual([
      "follower",
      2,
      undefined,
    ]);
  });

  test("the target is elected before any other server, because its log is as long as any", () => {
    const cluster = led({ elections: "automatic" });
    for (const text of ["a", "b"]) cluster.propose("n1", text);
    cluster.deliver();
    cluster.act("n1", (raft) => raft.transferLeadership("n3"));
    cluster.deliver();
    expect(cluster.leaders).toEqual(["n3"]);
    expect(cluster.raft("n3").term).toBe(2);
  });

  test("the old leader gives up after an election timeout, and accepts proposals again", () => {
    const cluster = led({ electionTicks: 5 });
    cluster.crash("n2");
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    cluster.tick(4, ["n1"]);
    expect(cluster.raft("n1").propose(bytes("a"))).toEqual({ refused: "transferring" });
    cluster.tick(1, ["n1"]);
    expect(cluster.raft("n1").propose(bytes("a"))).toHaveProperty("accepted");
  });

  test("a transfer to a bad target costs one more election at worst", () => {
    const cluster = led({ electionTicks: 5 });
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    const [late] = cluster.drop(isTimeoutNow);
    cluster.tick(5, ["n1"]);
    cluster.propose("n1", "a");
    cluster.deliver();
    cluster.arrive(late!);
    cluster.deliver();
    expect(cluster.leaders).toEqual(["n2"]);
    expect(cluster.applied("n2")).toContainEqual(expect.objectContaining({ data: bytes("a") }));
  });

  test("a TimeoutNow of a term that is over starts no election", () => {
    const raft = startNode({ term: 5, memberships: [{ index: 0, members: voters(...ids) }] });
    raft.step(timeoutNow(4));
    expect([raft.role, raft.term]).toEqual(["follower", 5]);
    expect(settle(raft).messages).toMatchObject([{ type: "timeout_now_answer", term: 5 }]);
  });

  test("a target that learns the leader's term only now campaigns in the one after it", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    raft.step(timeoutNow(4));
    expect([raft.role, raft.term]).toEqual(["candidate", 5]);
  });

  test("a node that may not campaign does not, even when it is told to", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters("n2", "n3") }] });
    ask(raft, append({ term: 1 }));
    raft.step(timeoutNow(1));
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
  });

  test("a leader that is told by a node that cannot be one keeps leading", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.step(timeoutNow(1));
    expect([raft.role, raft.term]).toEqual(["leader", 1]);
    expect(settle(raft).messages).toMatchObject([{ type: "timeout_now_answer" }]);
  });

  test("the target is the most caught-up active voter when none is named", () => {
    const cluster = led();
    cluster.propose("n1", "a");
    cluster.deliver(isTo("n3"));
    cluster.drop(isAppend);
    cluster.deliver();
    expect(cluster.act("n1", (raft) => raft.transferLeadership(undefined))).toEqual({ allowed: true });
    expect(cluster.raft("n1").transferTarget).toBe("n3");
  });
});
