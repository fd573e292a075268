import { describe, expect, test } from "vitest";
import {
  accept,
  append,
  appendsOf,
  bytes,
  elected,
  requestVote,
  settle,
  startLeaderOf,
  startNode,
  voters,
} from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isTo, type MemberSetup } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
const memberships = [{ index: 0, members: voters(...ids) }];
/** n1 leads, and its log is everywhere. */
function led(setup: MemberSetup = {}) {
  const cluster = new Cluster(ids, setup);
  cluster.elect("n1");
  return cluster;
}

describe("Raft section 8, client interaction", () => {
  test("a server that does not lead refuses clients, and names the last leader that it has heard of", () => {
    const cluster = led();
    const raft = cluster.raft("n2");
    expect(raft.propose(bytes("a"))).toEqual({ refused: "not_leader" });
    raft.readIndex(1);
    expect(raft.takeReads()).toEqual([{ requestId: 1, index: undefined }]);
    expect(raft.leader).toBe("n1");
  });

  test("a leader begins its term with a no-op, so that it learns which entries are committed", () => {
    const cluster = new Cluster(ids, { terms: [1, 1] });
    cluster.act("n2", (raft) => raft.campaign());
    cluster.deliver((flight) => !isAppend(flight));
    const raft = cluster.raft("n2");
    expect([raft.role, raft.log.commit]).toEqual(["leader", 0]);
    cluster.deliver();
    expect(cluster.disk("n2").entries.at(-1)).toEqual({ index: 3, term: 2, type: "no-op", data: new Uint8Array() });
    expect(raft.log.commit).toBe(3);
  });

  test("a deposed leader that does not know it answers no read", () => {
    const cluster = led();
    cluster.partition(["n1"], ["n2", "n3"]);
    cluster.elect("n2");
    cluster.propose("n2", "new");
    cluster.deliver();
    cluster.act("n1", (raft) => raft.readIndex(1));
    cluster.deliver();
    expect(cluster.raft("n1").role).toBe("leader");
    expect(cluster.raft("n1").takeReads()).toEqual([]);
    cluster.heal();
    cluster.pass(2);
    expect(cluster.raft("n1").takeReads()).toEqual([{ requestId: 1, index: undefined }]);
  });
});

describe("thesis section 6.2, finding the leader", () => {
  test("a leader that hears from no majority for an election timeout steps down", () => {
    const cluster = led({ elections: "automatic", electionTicks: 5 });
    cluster.partition(["n1"], ["n2", "n3"]);
    // Up to two timeouts: it looks back once in each.
    cluster.tick(10, ["n1"]);
    expect([cluster.raft("n1").role, cluster.raft("n1").leader]).toEqual(["follower", undefined]);
    expect(cluster.raft("n1").propose(bytes("a"))).toEqual({ refused: "not_leader" });
  });

  test("a leader that hears from a majority keeps leading, even when some are silent", () => {
    const cluster = led({ elections: "automatic", electionTicks: 5 });
    cluster.crash("n3");
    cluster.pass(50);
    expect(cluster.leaders).toEqual(["n1"]);
  });

  test("learners do not count for the majority that a leader must hear from", () => {
    const members = [...voters("n1", "n2"), { id: "n3", address: "", role: "learner" } as const];
    const cluster = new Cluster(ids, { elections: "automatic", electionTicks: 5 }, {}, members);
    cluster.elect("n1");
    cluster.crash("n2");
    cluster.pass(10);
    expect(cluster.leaders).toEqual([]);
  });

  test("a follower forgets the leader when it starts an election", () => {
    const raft = startNode({ memberships, elections: "automatic" });
    raft.step(append({ term: 1 }));
    for (let tick = 0; tick < 10; tick++) raft.tick();
    expect([raft.role, raft.leader]).toEqual(["pre-candidate", undefined]);
  });

  test("a follower forgets the leader when the term changes", () => {
    const raft = startNode({ memberships });
    raft.step(append({ term: 1 }));
    raft.step(requestVote(2, [0, 0], { from: "n3" }));
    expect([raft.term, raft.leader]).toEqual([2, undefined]);
  });
});

describe("thesis section 6.4, linearizable reads", () => {
  test("1. a leader that has not committed an entry of its own term waits until it has", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1], commit: 2, applied: 2 });
    raft.readIndex(1);
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request, 2));
    expect(raft.takeReads()).toEqual([]);
    for (const request of requests) raft.receive(accept(request));
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    expect(raft.takeReads()).toEqual([{ requestId: 1, index: 3 }]);
  });

  test("2. a read gets the commit index at its arrival, and no later one", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.readIndex(1));
    cluster.propose("n1", "later");
    cluster.deliver();
    expect(cluster.raft("n1").log.commit).toBe(2);
    expect(cluster.raft("n1").takeReads()).toEqual([{ requestId: 1, index: 1 }]);
  });

  test("3. a read is answered when a majority has answered heartbeats that were sent after it came", () => {
    const cluster = led();
    // Sent before, and answered after it came.
    cluster.tick(1, ["n1"]);
    cluster.deliver(isTo("n2", "n3"));
    cluster.act("n1", (raft) => raft.readIndex(1));
    cluster.deliver(({ kind }) => kind === "answer");
    expect(cluster.raft("n1").takeReads()).toEqual([]);
    cluster.deliver((flight) => isTo("n2")(flight) || isFrom("n2")(flight));
    expect(cluster.raft("n1").takeReads()).toEqual([{ requestId: 1, index: 1 }]);
  });

  test("3. the heartbeats of a read are sent at once, and again when they are lost", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.readIndex(1));
    expect(cluster.drop(isAppend).map(({ to }) => to)).toEqual(["n2", "n3"]);
    cluster.pass(1);
    expect(cluster.raft("n1").takeReads()).toEqual([{ requestId: 1, index: 1 }]);
  });

  test("4. a read is given the index that the state machine has to reach, whether it has or not", () => {
    const cluster = led();
    cluster.propose("n1", "a");
    cluster.holdDisk("n1");
    cluster.deliver();
    cluster.act("n1", (raft) => raft.readIndex(1));
    cluster.deliver();
    const { log } = cluster.raft("n1");
    expect([log.applied, log.commit, ...cluster.raft("n1").takeReads()]).toEqual([1, 2, { requestId: 1, index: 2 }]);
  });

  test("one round of heartbeats serves all reads that have gathered", () => {
    const cluster = led();
    cluster.act("n1", (raft) => {
      for (const requestId of [1, 2, 3]) raft.readIndex(requestId);
    });
    expect(cluster.flights(isAppend)).toHaveLength(2);
    cluster.deliver();
    expect(
      cluster
        .raft("n1")
        .takeReads()
        .map(({ requestId }) => requestId),
    ).toEqual([1, 2, 3]);
    expect(cluster.flights()).toEqual([]);
  });
});

/** n1 leads by its timer; voters' clocks are slow enough for nobody else to campaign soon. */
function leased() {
  const late = { random: () => 0.9 };
  const cluster = new Cluster(ids, { elections: "automatic", reads: "lease" }, { n2: late, n3: late });
  cluster.pass(12);
  expect(cluster.leaders).toEqual(["n1"]);
  return cluster;
}

/** Whether a leader answers a read without asking anybody. */
function answersAlone(cluster: Cluster, id = "n1"): boolean {
  const raft = cluster.raft(id);
  raft.readIndex(1);
  const isAnswered = raft.takeReads().some(({ index }) => index !== undefined);
  cluster.work(id);
  cluster.deliver();
  raft.takeReads();
  return isAnswered;
}

describe("thesis section 6.4.1, leases", () => {
  test("a majority's answers extend the lease for about an election timeout from when they were asked", () => {
    const cluster = leased();
    cluster.partition(["n1"], ["n2", "n3"]);
    let ticks = 0;
    for (; answersAlone(cluster); ticks++) cluster.tick(1, ["n1"]);
    expect(ticks).toBeGreaterThan(4);
    expect(ticks).toBeLessThan(9);
  });

  test("reads under a lease are answered without messages", () => {
    const cluster = leased();
    cluster.act("n1", (raft) => raft.readIndex(1));
    expect(cluster.raft("n1").takeReads()).toEqual([{ requestId: 1, index: cluster.raft("n1").log.commit }]);
    expect(cluster.flights()).toEqual([]);
  });

  test("reads without a lease are answered as in section 6.4", () => {
    const cluster = leased();
    cluster.drop();
    cluster.tick(9, ["n1"]);
    cluster.drop();
    cluster.act("n1", (raft) => raft.readIndex(1));
    expect(cluster.raft("n1").takeReads()).toEqual([]);
    cluster.deliver();
    expect(cluster.raft("n1").takeReads()).toHaveLength(1);
  });

  test("the lease stands on voters that have heard from a leader, and vote for no other within an election timeout", () => {
    const cluster = leased();
    cluster.partition(["n2", "n3"]);
    cluster.tick(9, ["n2"]);
    cluster.act("n3", (raft) => raft.campaign());
    cluster.deliver();
    expect(cluster.leaders).toEqual(["n1"]);
  });

  test("a voter that has heard from a leader does not forget it when it learns of a higher term", () => {
    const raft = startNode({ memberships, elections: "automatic", reads: "lease" });
    for (let tick = 0; tick < 10; tick++) raft.tick();
    const asked = settle(raft).requests;
    raft.step(append({ term: 1, from: "n2" }));
    settle(raft);
    // A late denial of the pre-vote, by someone whose term has nothing to do with that leader.
    const { to: from, term } = asked[0]!;
    const request = { term, preVote: true };
    raft.receive({ type: "request_vote_answer", from, term: 7, granted: false, request });
    expect(raft.term).toBe(7);
    raft.step(requestVote(8, [9, 7], { from: "n3" }));
    expect(settle(raft).messages).toMatchObject([{ granted: false }]);
  });

  test("a voter that has just started may have heard from a leader, and waits as long before it votes", () => {
    const raft = startNode({ memberships, elections: "automatic", reads: "lease", random: () => 0.9 });
    for (let tick = 0; tick < 9; tick++) raft.tick();
    raft.step(requestVote(1, [0, 0]));
    expect(settle(raft).messages).toMatchObject([{ granted: false, term: 0 }]);
    raft.tick();
    raft.step(requestVote(1, [0, 0]));
    expect(settle(raft).messages).toMatchObject([{ granted: true, term: 1 }]);
  });

  test("a voter that has heard from a leader does not vote for itself either, when it is told to campaign", () => {
    const cluster = leased();
    expect(cluster.raft("n2").campaign()).toEqual({ refused: expect.stringContaining("wait for an election timeout") });
    expect(cluster.raft("n2").role).toBe("follower");
    cluster.tick(10, ["n2"]);
    expect(cluster.raft("n2").campaign()).toEqual({ allowed: true });
  });

  test("the only voter campaigns under a lease, as it can have promised nothing to another", () => {
    const raft = startNode({ elections: "automatic", reads: "lease" });
    expect(raft.campaign()).toEqual({ allowed: true });
    expect(raft.role).toBe("leader");
  });

  test("a leader ends its lease before it hands over, because a new leader need not wait for its end", () => {
    const cluster = leased();
    expect(answersAlone(cluster)).toBe(true);
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    cluster.drop();
    cluster.raft("n1").readIndex(1);
    expect(cluster.raft("n1").takeReads()).toEqual([]);
  });

  test("a leader takes no other lease in its term when the transfer fails, because the target may still act on it", () => {
    const cluster = leased();
    cluster.act("n1", (raft) => raft.transferLeadership("n2"));
    const [told] = cluster.drop(({ message }) => message.type === "timeout_now");
    cluster.pass(10);
    expect([cluster.raft("n1").role, cluster.raft("n1").transferTarget]).toEqual(["leader", undefined]);
    expect(answersAlone(cluster)).toBe(false);
    // It was late, not lost.
    cluster.arrive(told!);
    cluster.partition(["n1"], ["n2", "n3"]);
    cluster.deliver();
    expect(cluster.leaders).toEqual(["n1", "n2"]);
  });

  test("the lease is shorter than the voters' wait by the bound on the clocks' drift, even for the shortest timeout", () => {
    for (const electionTicks of [2, 3, 5, 10, 20, 100]) {
      const setup = { elections: "automatic", reads: "lease", random: () => 0.99 } as const;
      const raft = startLeaderOf(["n2", "n3"], { ...setup, electionTicks });
      raft.readIndex(1);
      for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
      expect(raft.takeReads()).toHaveLength(1);
      let ticks = 0;
      for (; answersOne(raft); ticks++) raft.tick();
      // A clock of this leader that is slower by a tenth has counted so many ticks in the time that voters are sure to wait.
      expect(ticks).toBeLessThanOrEqual(0.9 * (electionTicks - 1));
    }
  });

  test("the lease counts for nothing when this node's clock may have stood still", () => {
    const cluster = leased();
    cluster.raft("n1").distrustClock();
    expect(answersAlone(cluster)).toBe(false);
    cluster.pass(2);
    expect(answersAlone(cluster)).toBe(true);
  });
});

function answersOne(raft: ReturnType<typeof startNode>): boolean {
  raft.readIndex(1);
  return raft.takeReads().some(({ index }) => index !== undefined);
}
