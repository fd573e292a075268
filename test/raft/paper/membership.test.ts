import { describe, expect, test } from "vitest";
import { majority } from "../../../src/raft/membership/quorum.js";
import type { Membership } from "../../../src/raft/types.js";
import {
  append,
  ask,
  codec,
  commands,
  configuration,
  progressOf,
  requestVote,
  startNode,
  termsOf,
  voters,
} from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isTo, type MemberSetup } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
const learner = (id: string) => ({ id, address: "", role: "learner" }) as const;
const add = (id: string) => ({ type: "add_learner", id, address: "" }) as const;
const promote = (id: string) => ({ type: "promote", id }) as const;
const remove = (id: string) => ({ type: "remove", id }) as const;

/** n1 leads n1, n2 and n3, and n4 runs without being a member. */
function led(setup: MemberSetup = {}) {
  const cluster = new Cluster([...ids, "n4"], setup, {}, voters(...ids));
  cluster.elect("n1");
  return cluster;
}

describe("Raft section 6, cluster membership changes", () => {
  test("a configuration is a special entry of the log, and replicated like any other", () => {
    const cluster = led();
    expect(cluster.act("n1", (raft) => raft.changeMembership(add("n4")))).toEqual({ accepted: { index: 2, term: 1 } });
    cluster.deliver();
    for (const id of [...ids, "n4"]) {
      const entry = cluster.disk(id).entries[1]!;
      expect([entry.type, codec.decode(entry.data)]).toEqual(["configuration", [...voters(...ids), learner("n4")]]);
    }
  });

  test("a leader uses the last configuration in its log to commit, committed or not", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(remove("n3")));
    expect(cluster.raft("n1").membership).toEqual({ index: 2, members: voters("n1", "n2") });
    // Two of three would do, and both of two are needed.
    cluster.deliver(isTo("n3"));
    expect(cluster.raft("n1").log.commit).toBe(1);
    cluster.deliver();
    expect(cluster.raft("n1").log.commit).toBe(2);
  });

  test("a candidate uses the last configuration in its log to count votes, committed or not", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    ask(raft, append({ entries: [configuration(1, 1, voters("n1", "n2"))] }));
    expect(raft.log.commit).toBe(0);
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(remove("n3")));
    cluster.deliver(isTo("n2"));
    cluster.drop();
    cluster.act("n2", (raft) => raft.campaign());
    expect(cluster.flights().map(({ to }) => to)).toEqual(["n1"]);
  });

  test("new servers join without a vote: they get the log, and do not count for majorities", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(add("n4")));
    cluster.deliver();
    expect(termsOf(cluster.raft("n4"))).toEqual([1, 1]);
    cluster.partition(["n1", "n4"], ["n2", "n3"]);
    cluster.propose("n1", "a");
    cluster.pass(3);
    expect(progressOf(cluster.raft("n1"), "n4")).toMatchObject({ match: 3 });
    expect(cluster.raft("n1").log.commit).toBe(2);
  });

  test("new servers vote for no leader, least of all themselves", () => {
    const cluster = led({ elections: "automatic" });
    cluster.act("n1", (raft) => raft.changeMembership(add("n4")));
    cluster.deliver();
    cluster.tick(50, ["n4"]);
    expect(cluster.raft("n4").role).toBe("follower");
    expect(cluster.raft("n4").campaign()).toEqual({ refused: expect.stringContaining("n4 is not a voter") });
  });

  test("a leader that is not in the new configuration steps down when that is committed, and not before", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(remove("n1")));
    expect([cluster.raft("n1").role, cluster.raft("n1").log.commit]).toEqual(["leader", 1]);
    cluster.deliver(isTo("n2"));
    cluster.deliver(isFrom("n2"));
    // n2 alone is no majority of n2 and n3, and n1 does not count itself.
    expect([cluster.raft("n1").role, cluster.raft("n1").log.commit]).toEqual(["leader", 1]);
    cluster.deliver(isTo("n3"));
    cluster.deliver(isFrom("n3"));
    expect([cluster.raft("n1").role, cluster.raft("n1").log.commit]).toEqual(["follower", 2]);
  });

  test("a removed leader replicates entries until its removal is committed, without counting itself", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(remove("n1")));
    cluster.propose("n1", "a");
    cluster.deliver(isTo("n3"));
    expect(termsOf(cluster.raft("n3"))).toEqual([1, 1, 1]);
    cluster.deliver(isFrom("n3"));
    expect(cluster.raft("n1").log.commit).toBe(1);
    cluster.deliver();
    expect([cluster.raft("n1").role, cluster.raft("n1").log.commit]).toEqual(["follower", 2]);
    expect(cluster.applied("n2").map(({ type }) => type)).toEqual(["no-op", "configuration", "command", "no-op"]);
  });

  test("a server that heard from a leader within the smallest election timeout neither votes nor adopts a term", () => {
    const raft = startNode({ elections: "automatic", memberships: [{ index: 0, members: voters(...ids) }] });
    ask(raft, append({ term: 1 }));
    for (let tick = 0; tick < 9; tick++) raft.tick();
    expect(ask(raft, requestVote(9, [9, 9], { from: "n3" }))).toMatchObject({ granted: false, term: 1 });
    expect([raft.term, raft.leader]).toEqual([1, "n2"]);
  });

  test("the rule against disruptive servers does not hinder normal elections, as each server has waited as long itself", () => {
    const cluster = new Cluster(ids, { elections: "automatic" }, { n3: { random: () => 0.5 } });
    cluster.elect("n1");
    cluster.crash("n1");
    cluster.pass(40);
    expect(cluster.leaders).toHaveLength(1);
  });
});

describe("thesis section 4.1, one server at a time", () => {
  test("any majority of the servers before a change and any after it have a server in common", () => {
    for (let before = 1; before <= 9; before++) {
      const after = before + 1;
      expect(majority(before) + majority(after)).toBeGreaterThan(after);
    }
  });

  test("a configuration is in force on each server as soon as it is in its log", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(add("n4")));
    cluster.deliver(isTo("n2"));
    expect(ids.map((id) => cluster.raft(id).membership.index)).toEqual([2, 2, 0]);
    expect(cluster.raft("n2").log.commit).toBe(1);
  });

  test("a configuration is committed by a majority of the new configuration", () => {
    const cluster = new Cluster(["n1", "n2"], {}, {}, voters("n1", "n2"));
    cluster.elect("n1");
    cluster.crash("n2");
    // One of one.
    cluster.act("n1", (raft) => raft.changeMembership(remove("n2")));
    expect(cluster.raft("n1").log.commit).toBe(2);
  });

  test("no change begins before the last one is committed", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(add("n4")));
    const second = cluster.act("n1", (raft) => raft.changeMembership(remove("n3")));
    expect(second).toMatchObject({ impossible: expect.stringContaining("the change at index 2 is not committed yet") });
    cluster.deliver();
    expect(cluster.act("n1", (raft) => raft.changeMembership(remove("n3")))).toHaveProperty("accepted");
  });

  test("no change begins before the leader has committed an entry of its own term (correction of 2015 on the raft-dev list)", () => {
    const cluster = new Cluster(ids);
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver((flight) => !isAppend(flight));
    expect(cluster.raft("n1").role).toBe("leader");
    const early = cluster.raft("n1").changeMembership(remove("n3"));
    expect(early).toMatchObject({ impossible: expect.stringContaining("not committed an entry of its term") });
    cluster.deliver();
    expect(cluster.raft("n1").changeMembership(remove("n3"))).toHaveProperty("accepted");
  });

  test("only one of two leaders' unrelated changes can be committed, as in the story of that correction", () => {
    const four = ["n1", "n2", "n3", "n4"];
    const cluster = new Cluster([...four, "n5"], {}, {}, [...voters(...four), learner("n5")]);
    cluster.elect("n1");
    // n1 makes n5 a voter, and only n5 hears of it.
    cluster.partition(["n1", "n5"], ["n2", "n3", "n4"]);
    cluster.act("n1", (raft) => raft.changeMembership(promote("n5")));
    cluster.deliver();
    expect(cluster.raft("n1").log.commit).toBe(1);
    // n2 is elected, and would remove n1: were that committed by n2 and n3 alone, n1, n4 and n5 could elect n1.
    cluster.act("n2", (raft) => raft.campaign());
    cluster.deliver((flight) => !isAppend(flight));
    cluster.deliver((flight) => isTo("n3")(flight) || isFrom("n3")(flight));
    expect(cluster.act("n2", (raft) => raft.changeMembership(remove("n1")))).toHaveProperty("impossible");
    cluster.deliver();
    expect(cluster.act("n2", (raft) => raft.changeMembership(remove("n1")))).toHaveProperty("accepted");
    cluster.deliver((flight) => isTo("n3")(flight) || isFrom("n3")(flight));
    expect(cluster.raft("n2").log.commit).toBe(3);
    // n4 has not heard of the removal, but holds n2's first entry: it does not vote for n1.
    cluster.crash("n2");
    cluster.heal();
    cluster.restart("n1");
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver();
    expect(cluster.raft("n1").role).not.toBe("leader");
  });

  test("a server falls back to the configuration before when the entry is removed", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    ask(raft, append({ entries: [configuration(1, 1, voters("n1", "n2"))] }));
    ask(raft, append({ entries: commands(1, [2]) }));
    expect(raft.membership).toEqual({ index: 0, members: voters(...ids) });
  });

  test("a server accepts AppendEntries from a leader that is not in its configuration", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters("n1", "n2") }] });
    expect(ask(raft, append({ from: "n9", entries: commands(1, [1]) }))).toMatchObject({ matchIndex: 1 });
    expect(raft.leader).toBe("n9");
  });

  test("a server grants votes to candidates that are not in its configuration", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters("n1", "n2") }] });
    expect(ask(raft, requestVote(1, [0, 0], { from: "n9" }))).toMatchObject({ granted: true });
  });

  test("a server that is no voter as far as it knows grants votes, too", () => {
    const members: Membership = [learner("n1"), ...voters("n2", "n3")];
    const raft = startNode({ memberships: [{ index: 0, members }] });
    expect(ask(raft, requestVote(1, [0, 0]))).toMatchObject({ granted: true });
  });
});

describe("thesis section 4.2.1, catching up new servers", () => {
  function withLearner(setup: MemberSetup = {}) {
    const cluster = led(setup);
    cluster.act("n1", (raft) => raft.changeMembership(add("n4")));
    cluster.deliver();
    return cluster;
  }

  test("a server with an empty log is brought up without going back an index at a time, as answers tell the log's length", () => {
    const cluster = new Cluster([...ids, "n4"], { terms: Array(500).fill(1) }, { n4: {} }, voters(...ids));
    cluster.elect("n1");
    cluster.act("n1", (raft) => raft.changeMembership(add("n4")));
    let messages = 0;
    for (let flight = cluster.flights()[0]; flight !== undefined; flight = cluster.flights()[0]) {
      if (isAppend(flight) && isTo("n4")(flight)) messages++;
      cluster.deliverOne(flight);
    }
    expect(cluster.raft("n4").log.last.index).toBe(502);
    expect(messages).toBeLessThan(8);
  });

  test("a learner that has caught up becomes a voter", () => {
    const cluster = withLearner();
    expect(cluster.act("n1", (raft) => raft.changeMembership(promote("n4")))).toHaveProperty("accepted");
    cluster.deliver();
    expect(cluster.raft("n4").membership.members).toEqual(voters(...ids, "n4"));
    cluster.crash("n2");
    cluster.crash("n3");
    cluster.propose("n1", "a");
    cluster.pass(2);
    // Two of four are no majority.
    expect(cluster.raft("n1").log.commit).toBe(3);
  });

  test("a learner that lags behind by more than an election timeout's entries does not become a voter", () => {
    const cluster = withLearner();
    cluster.partition(ids, ["n4"]);
    for (let tick = 0; tick < 20; tick++) {
      cluster.propose("n1", `${tick}`);
      cluster.pass(1);
    }
    const refused = cluster.raft("n1").changeMembership(promote("n4"));
    expect(refused).toMatchObject({ impossible: expect.stringContaining("n4 has not caught up") });
    cluster.heal();
    cluster.pass(2);
    expect(cluster.raft("n1").changeMembership(promote("n4"))).toHaveProperty("accepted");
  });

  test("a learner that lags behind by less becomes a voter, even when new entries keep coming", () => {
    const cluster = withLearner();
    for (let tick = 0; tick < 40; tick++) {
      cluster.propose("n1", `${tick}`);
      cluster.tick();
      cluster.deliver((flight) => !isTo("n4")(flight));
      if (tick % 5 === 4) cluster.deliver();
    }
    cluster.propose("n1", "last");
    expect(progressOf(cluster.raft("n1"), "n4")!.match).toBeLessThan(cluster.raft("n1").log.last.index);
    expect(cluster.raft("n1").changeMembership(promote("n4"))).toHaveProperty("accepted");
  });

  test("a learner that is unavailable does not become a voter, even when it lacks nothing", () => {
    const cluster = withLearner();
    cluster.crash("n4");
    cluster.pass(30);
    expect(progressOf(cluster.raft("n1"), "n4")?.match).toBe(cluster.raft("n1").log.last.index);
    const refused = cluster.raft("n1").changeMembership(promote("n4"));
    expect(refused).toMatchObject({ impossible: expect.stringContaining("n4 has not caught up") });
    cluster.restart("n4");
    cluster.pass(2);
    expect(cluster.raft("n1").changeMembership(promote("n4"))).toHaveProperty("accepted");
  });

  test("a learner that is available becomes a voter at any time", () => {
    for (let phase = 0; phase < 25; phase++) {
      const cluster = withLearner({ elections: "automatic", heartbeatTicks: 3 });
      cluster.pass(phase);
      expect(cluster.raft("n1").changeMembership(promote("n4")), `after ${phase} ticks`).toHaveProperty("accepted");
    }
  });
});

describe("thesis section 4.2.2, removing the leader", () => {
  test("a leader that is removed steps down once the configuration without it is committed; another one takes over", () => {
    const cluster = led();
    cluster.act("n1", (raft) => raft.changeMembership(remove("n1")));
    cluster.deliver();
    expect(cluster.raft("n1").role).toBe("follower");
    expect(cluster.leaders).toHaveLength(1);
    const [leader] = cluster.leaders;
    expect(cluster.raft(leader!).membership).toEqual({ index: 2, members: voters("n2", "n3") });
    expect(cluster.raft(leader!).log.commit).toBe(3);
  });

  test("a server that its own last configuration leaves out still campaigns until that is committed (figure 4.6)", () => {
    const cluster = new Cluster(
      ["n1", "n2"],
      { elections: "automatic" },
      { n2: { electionTicks: 30 } },
      voters("n1", "n2"),
    );
    cluster.elect("n1");
    cluster.act("n1", (raft) => raft.changeMembership(remove("n1")));
    cluster.drop();
    cluster.restart("n1");
    // n2 needs the vote of n1 and does not get it: its log is shorter.
    cluster.act("n2", (raft) => raft.campaign());
    cluster.deliver();
    expect(cluster.leaders).toEqual([]);
    cluster.pass(60);
    expect(cluster.raft("n2").membership).toEqual({ index: 2, members: voters("n2") });
    expect([cluster.leaders, cluster.raft("n1").role]).toEqual([["n2"], "follower"]);
  });

  test("a server that is left out campaigns without counting its own vote", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.act("n1", (raft) => raft.changeMembership(remove("n1")));
    cluster.drop();
    cluster.restart("n1");
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver((flight) => isTo("n2")(flight) || isFrom("n2")(flight));
    expect(cluster.raft("n1").role).toBe("candidate");
    cluster.deliver((flight) => !isAppend(flight));
    expect(cluster.raft("n1").role).toBe("leader");
  });

  test("a server that is left out stops campaigning when its removal is committed", () => {
    const cluster = led({ elections: "automatic" });
    cluster.act("n1", (raft) => raft.changeMembership(remove("n1")));
    cluster.deliver();
    const { term } = cluster.raft("n2");
    cluster.tick(100, ["n1"]);
    expect(cluster.raft("n1").campaign()).toEqual({ refused: expect.stringContaining("n1 is not a voter") });
    expect(cluster.raft("n1").role).toBe("follower");
    expect(cluster.raft("n2").term).toBe(term);
  });
});

describe("thesis section 4.2.3, disruptive servers", () => {
  test("a server that does not know that it is removed disturbs no other, whatever it asks for", () => {
    const cluster = led({ elections: "automatic" });
    cluster.partition(["n1", "n2"], ["n3"]);
    cluster.act("n1", (raft) => raft.changeMembership(remove("n3")));
    cluster.deliver();
    cluster.heal();
    const { term } = cluster.raft("n1");
    for (let round = 0; round < 30; round++) {
      cluster.pass(3);
      cluster.act("n2", (raft) => raft.step(requestVote(term + 5 + round, [9, 9], { from: "n3" })));
      cluster.act("n1", (raft) => raft.step(requestVote(term + 5 + round, [9, 9], { from: "n3" })));
      cluster.drop(isTo("n3"));
    }
    expect(cluster.leaders).toEqual(["n1"]);
    expect([cluster.raft("n1").term, cluster.raft("n2").term]).toEqual([term, term]);
  });

  test("a request that its leader has asked for is considered all the same", () => {
    const raft = startNode({ elections: "automatic", memberships: [{ index: 0, members: voters(...ids) }] });
    ask(raft, append({ term: 1 }));
    const request = requestVote(2, [0, 0], { from: "n3", leadershipTransfer: true });
    expect(ask(raft, request)).toMatchObject({ granted: true, term: 2 });
  });
});
