import { describe, expect, test } from "vitest";
import {
  append,
  ask,
  bytes,
  requestVote,
  settle,
  startLeaderOf,
  startNode,
  vote,
  voters,
} from "../../support/nodes/core.js";
import { Random } from "../../support/random.js";
import { Cluster, isAppend, isFrom, isTo, isVoteRequest } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
const five = ["n1", "n2", "n3", "n4", "n5"];
const memberships = [{ index: 0, members: voters(...ids) }];
describe("Raft section 5.1, terms and roles", () => {
  test("one server leads in normal operation, and all others follow it", () => {
    const cluster = new Cluster(five, { elections: "automatic" }, { n4: { electionTicks: 8 } });
    cluster.pass(60);
    expect(cluster.leaders).toEqual(["n4"]);
    expect(five.map((id) => cluster.raft(id).leader)).toEqual(Array(5).fill("n4"));
  });

  test("followers are passive, and issue no requests of their own", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.propose("n1", "a");
    cluster.deliver(isTo("n2"));
    cluster.tick(3, ["n2"]);
    expect(cluster.flights(isFrom("n2")).every(({ kind }) => kind === "answer")).toBe(true);
  });

  test("a follower redirects a client to the leader", () => {
    const raft = startNode({ memberships });
    raft.step(append({ term: 1, from: "n3" }));
    expect(raft.propose(bytes("a"))).toEqual({ refused: "not_leader" });
    expect(raft.leader).toBe("n3");
  });

  test("terms are consecutive, and each begins with an election", () => {
    const cluster = new Cluster(ids);
    for (const [at, id] of ["n1", "n2", "n1", "n3"].entries()) expect(cluster.elect(id).term).toBe(at + 1);
  });

  test("a term with a split vote ends without a leader, and another one begins soon", () => {
    const four = ["n1", "n2", "n3", "n4"];
    const timers = four.map((id, at) => [id, { elections: "automatic", random: () => at / 4 }] as const);
    const cluster = new Cluster(four, {}, Object.fromEntries(timers));
    for (const id of ["n1", "n2"]) cluster.act(id, (raft) => raft.campaign());
    for (const [candidate, voter] of [
      ["n1", "n3"],
      ["n2", "n4"],
    ] as const) {
      cluster.deliver((flight) => isFrom(candidate)(flight) && isTo(voter)(flight));
    }
    cluster.deliver();
    expect([cluster.leaders, cluster.raft("n3").term]).toEqual([[], 1]);
    cluster.pass(40);
    expect(cluster.leaders).toHaveLength(1);
    expect(cluster.raft(cluster.leaders[0]!).term).toBe(2);
  });

  test("a term has at most one leader, whoever campaigns and whichever messages are lost", () => {
    const leaders = new Map<number, string>();
    const cluster = new Cluster(five);
    const random = new Random(7);
    for (let step = 0; step < 3000; step++) {
      if (random.oneIn(20)) cluster.act(random.pick(five), (raft) => raft.campaign());
      const flights = cluster.flights();
      if (flights.length > 0) {
        const flight = random.pick(flights);
        if (random.oneIn(8)) cluster.drop((each) => each === flight);
        else cluster.deliverOne(flight);
      }
      for (const id of cluster.leaders) {
        const { term } = cluster.raft(id);
        expect(leaders.get(term) ?? id).toBe(id);
        leaders.set(term, id);
      }
    }
    expect(leaders.size).toBeGreaterThan(10);
  });

  test("servers exchange their terms in each message, and a server that is behind adopts the higher term", () => {
    const cluster = new Cluster(ids, {}, { n3: { term: 6 } });
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver(isTo("n2"));
    expect([cluster.raft("n1").term, cluster.raft("n2").term]).toEqual([1, 1]);
    cluster.deliver(isTo("n3"));
    cluster.deliver(isFrom("n3"));
    expect(cluster.raft("n1").term).toBe(6);
  });

  test("a candidate or leader that learns that its term is over becomes a follower at once", () => {
    const candidate = startNode({ memberships });
    candidate.campaign();
    candidate.step(requestVote(5, [0, 0]));
    const leader = startLeaderOf(["n2", "n3"]);
    leader.step(append({ term: 5 }));
    expect([candidate.role, leader.role]).toEqual(["follower", "follower"]);
  });

  test("a request of a term that is over is rejected", () => {
    const raft = startNode({ term: 5, memberships });
    expect(ask(raft, append({ term: 4 }))).toMatchObject({ rejection: { reason: "stale_term" } });
    expect(ask(raft, requestVote(4, [9, 4])).granted).toBe(false);
    expect([raft.leader, raft.term]).toEqual([undefined, 5]);
  });

  test("a request that is not answered is sent again", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.propose("n1", "a");
    cluster.drop();
    expect(cluster.raft("n1").log.commit).toBe(1);
    cluster.pass(2);
    expect(ids.map((id) => cluster.raft(id).log.commit)).toEqual([2, 2, 2]);
  });

  test("requests go to all servers at the same time", () => {
    const cluster = new Cluster(five);
    cluster.act("n1", (raft) => raft.campaign());
    expect(cluster.flights(isVoteRequest).map(({ to }) => to)).toEqual(["n2", "n3", "n4", "n5"]);
    cluster.deliver();
    cluster.propose("n1", "a");
    expect(cluster.flights(isAppend).map(({ to }) => to)).toEqual(["n2", "n3", "n4", "n5"]);
  });
});

describe("Raft section 5.2, leader election", () => {
  test("a server starts as a follower, whatever it was before", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.restart("n1");
    expect([cluster.raft("n1").role, cluster.raft("n1").leader]).toEqual(["follower", undefined]);
  });

  test("a server stays a follower while valid messages of a leader arrive", () => {
    const cluster = new Cluster(ids, { elections: "automatic" });
    cluster.elect("n2");
    cluster.pass(200);
    expect(["n1", "n3"].map((id) => cluster.raft(id).role)).toEqual(["follower", "follower"]);
  });

  test("leaders regularly send heartbeats, which are AppendEntries without entries, to all followers", () => {
    const cluster = new Cluster(ids, { heartbeatTicks: 3 });
    cluster.elect("n1");
    cluster.tick(2, ["n1"]);
    expect(cluster.flights()).toEqual([]);
    cluster.tick(1, ["n1"]);
    const sent = cluster.flights(isAppend).map(({ to, message }) => [to, message.type]);
    expect(sent).toEqual(["n2", "n3"].map((id) => [id, "append_entries"]));
    for (const flight of cluster.flights()) expect(flight.message).toMatchObject({ entries: [] });
  });

  test("a follower that hears nothing for an election timeout begins an election", () => {
    const cluster = new Cluster(
      ids,
      { elections: "automatic" },
      { n2: { electionTicks: 14 }, n3: { electionTicks: 14 } },
    );
    cluster.elect("n2");
    cluster.partition(["n1", "n3"], ["n2"]);
    cluster.pass(9);
    expect(cluster.raft("n1").role).toBe("follower");
    cluster.tick(1, ["n1"]);
    expect(cluster.raft("n1").role).not.toBe("follower");
  });

  test("(a) a candidate wins with the votes of a majority of the whole cluster for the same term", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...five) }] });
    raft.campaign();
    const requests = settle(raft).requests;
    raft.receive(vote(requests[0]!, true));
    // One vote twice is one vote.
    raft.receive(vote(requests[0]!, true));
    expect(raft.role).toBe("candidate");
    raft.receive(vote(requests[3]!, true));
    expect(raft.role).toBe("leader");
  });

  test("(a) votes that a candidate gets for another of its terms do not count", () => {
    const raft = startNode({ memberships });
    raft.campaign();
    const [early] = settle(raft).requests;
    raft.campaign();
    settle(raft);
    raft.receive(vote(early!, true));
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
  });

  test("(a) votes of servers outside the membership do not count", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...five) }] });
    raft.campaign();
    const [request] = settle(raft).requests;
    for (const stranger of ["n8", "n9"]) raft.receive({ ...vote(request!, true), from: stranger });
    expect(raft.role).toBe("candidate");
  });

  test("a server votes for one candidate in a term, first come, first served", () => {
    const raft = startNode({ memberships });
    expect(ask(raft, requestVote(1, [0, 0], { from: "n3" })).granted).toBe(true);
    expect(ask(raft, requestVote(1, [0, 0], { from: "n2" })).granted).toBe(false);
  });

  test("a candidate has voted for itself", () => {
    const raft = startNode({ memberships });
    raft.campaign();
    settle(raft);
    expect(ask(raft, requestVote(1, [9, 1]))).toMatchObject({ granted: false, term: 1 });
  });

  test("a winner sends heartbeats at once, so that no other server campaigns", () => {
    const cluster = new Cluster(ids, { elections: "automatic" });
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver((flight) => !isAppend(flight));
    expect(cluster.flights(isAppend).map(({ to }) => to)).toEqual(["n2", "n3"]);
  });

  test("(b) a candidate that hears from a leader of its own term or a higher one follows it", () => {
    for (const term of [1, 2]) {
      const raft = startNode({ memberships });
      raft.campaign();
      raft.step(append({ term, from: "n2" }));
      expect([raft.role, raft.term, raft.leader]).toEqual(["follower", term, "n2"]);
    }
  });

  test("(b) a candidate rejects a leader of a lower term, and stays a candidate", () => {
    const raft = startNode({ memberships, term: 3 });
    raft.campaign();
    settle(raft);
    expect(ask(raft, append({ term: 3 }))).toMatchObject({ rejection: { reason: "stale_term" } });
    expect([raft.role, raft.term]).toEqual(["candidate", 4]);
  });

  test("(c) a candidate without a winner starts a new election in a higher term when its timeout ends", () => {
    const cluster = new Cluster(ids, {}, { n1: { elections: "automatic" } });
    cluster.act("n1", (raft) => raft.campaign());
    cluster.drop();
    cluster.tick(10, ["n1"]);
    cluster.deliver();
    expect([cluster.leaders, cluster.raft("n1").term]).toEqual([["n1"], 2]);
  });

  test("timeouts are drawn from a fixed interval, electionTicks to 2 * electionTicks - 1", () => {
    for (const [random, expected] of [
      [0, 10],
      [0.55, 15],
      [0.9999, 19],
    ] as const) {
      const raft = startNode({ memberships, elections: "automatic", random: () => random });
      let ticks = 0;
      for (; raft.role === "follower"; ticks++) raft.tick();
      expect(ticks).toBe(expected);
    }
  });

  test("a candidate draws a new timeout at the start of each election, and waits for it before the next one", () => {
    const drawn = [0, 0.5, 0.9];
    const raft = startNode({ memberships, elections: "automatic", random: () => drawn.shift() ?? 0 });
    const asksAfter = () => {
      for (let ticks = 1; ; ticks++) {
        raft.tick();
        if (settle(raft).requests.length > 0) return ticks;
      }
    };
    expect([asksAfter(), asksAfter(), asksAfter()]).toEqual([10, 15, 19]);
  });
});
