import { describe, expect, test } from "vitest";
import type { Entry } from "../../../src/raft/types.js";
import { append, ask, commands, requestVote, settle, startNode, termsOf, voters } from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isTo, isVoteRequest } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
const five = ["s1", "s2", "s3", "s4", "s5"];

describe("Raft section 5.4.1, election restriction", () => {
  test.each([
    ["a later last term, though it is shorter", [1, 3], true],
    ["the same last term and more entries", [4, 2], true],
    ["the same last entry", [3, 2], true],
    ["the same last term and fewer entries", [2, 2], false],
    ["an earlier last term, though it is longer", [9, 1], false],
  ] as const)("a vote goes only to a log that is at least as up-to-date: %s", (_, last, granted) => {
    expect(ask(startNode({ terms: [1, 2, 2] }), requestVote(9, last))).toMatchObject({ granted });
  });

  test("RequestVote carries the position of the candidate's last entry", () => {
    const raft = startNode({ terms: [1, 2], memberships: [{ index: 0, members: voters(...ids) }] });
    raft.campaign();
    expect(settle(raft).requests[0]).toMatchObject({ last: { index: 2, term: 2 } });
  });

  test("a candidate that lacks a committed entry is not elected by a majority, however often it tries", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.partition(["n1", "n2"], ["n3"]);
    cluster.propose("n1", "a");
    cluster.deliver();
    cluster.crash("n1");
    cluster.heal();
    for (let tries = 0; tries < 5; tries++) {
      cluster.act("n3", (raft) => raft.campaign());
      cluster.deliver();
      expect(cluster.raft("n3").role).not.toBe("leader");
    }
    expect(cluster.elect("n2").log.termAt(2)).toBe(1);
  });

  test("entries flow only from leaders to followers: a leader is never sent an entry that it lacks", () => {
    const cluster = new Cluster(ids, { term: 2 }, { n1: { terms: [2] }, n2: { terms: [1, 1, 1] }, n3: { terms: [1] } });
    cluster.elect("n1");
    expect(termsOf(cluster.raft("n1"))).toEqual([2, 3]);
    expect(termsOf(cluster.raft("n2"))).toEqual([2, 3]);
  });
});

describe("Raft section 5.4.2, committing entries of earlier terms", () => {
  test("only entries of the leader's own term are committed by counting copies", () => {
    const cluster = new Cluster(ids, { terms: [1, 1] });
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver((flight) => !isAppend(flight));
    expect(cluster.raft("n1").role).toBe("leader");
    // All have the two entries of term 1, and nothing else.
    expect(ids.map((id) => cluster.raft(id).log.last.index)).toEqual([3, 2, 2]);
    cluster.drop();
    cluster.tick(1, ["n1"]);
    cluster.deliver((flight) => !(flight.message.type === "append_entries" && flight.message.entries.length > 0));
    expect(cluster.raft("n1").log.commit).toBe(0);
  });

  test("earlier entries are committed with an entry of the leader's own term, without being counted", () => {
    const cluster = new Cluster(ids, { terms: [1, 1] });
    cluster.elect("n1");
    expect(cluster.raft("n1").log.commit).toBe(3);
  });

  test("entries keep the term that they were created in when a later leader replicates them", () => {
    const cluster = new Cluster(ids, { term: 4 }, { n1: { terms: [1, 3] } });
    cluster.elect("n1");
    expect(cluster.disk("n2").entries.map(({ term }) => term)).toEqual([1, 3, 5]);
  });

  /**
   * Figure 8 up to (c): S1 leads in term 4, and has brought its entry of term 2 to a majority, while S5 holds one of term 3.
   * Its no-op of term 4 is on S1 alone.
   */
  function figure8c() {
    const cluster = new Cluster(
      five,
      { terms: [1], term: 3 },
      {
        s1: { terms: [1, 2] },
        s2: { terms: [1, 2] },
        s5: { terms: [1, 3] },
      },
    );
    cluster.act("s1", (raft) => raft.campaign());
    cluster.deliver((flight) => !isAppend(flight));
    expect([cluster.raft("s1").role, cluster.raft("s1").term]).toEqual(["leader", 4]);
    // To S3 goes what stood in front of the no-op, and no more.
    const isNoOp = (flight: { message: { type: string } }) => "entries" in flight.message;
    cluster.drop(isNoOp);
    const second = cluster.disk("s1").entries[1]!;
    cluster.act("s3", (raft) => raft.step(append({ from: "s1", term: 4, prev: [1, 1], entries: [second] })));
    return cluster;
  }

  test("an entry of term 2 that is on a majority in term 4 is not committed by that: figure 8 (c)", () => {
    const cluster = figure8c();
    cluster.tick(1, ["s1"]);
    cluster.deliver((flight) => !(flight.message.type === "append_entries" && flight.message.entries.length > 0));
    const holders = five.filter((id) => cluster.raft(id).log.termAt(2) === 2);
    expect(holders).toEqual(["s1", "s2", "s3"]);
    expect(cluster.raft("s1").log.commit).toBe(0);
  });

  test("S5 may therefore still be elected, and replace the entry everywhere: figure 8 (d)", () => {
    const cluster = figure8c();
    cluster.crash("s1");
    cluster.elect("s5");
    cluster.restart("s1");
    cluster.pass(3);
    for (const id of five) expect(termsOf(cluster.raft(id))).toEqual([1, 3, 5]);
  });

  test("both entries are committed once S1's own is on a majority, and S5 is not elected: figure 8 (e)", () => {
    const cluster = figure8c();
    cluster.tick(1, ["s1"]);
    cluster.deliver((flight) => [flight.from, flight.to].every((id) => ["s1", "s2", "s3"].includes(id)));
    expect(cluster.raft("s1").log.commit).toBe(3);
    cluster.crash("s1");
    cluster.drop();
    cluster.act("s5", (raft) => raft.campaign());
    cluster.deliver();
    expect(cluster.raft("s5").role).not.toBe("leader");
    cluster.elect("s2");
    expect(cluster.raft("s5").log.termAt(2)).toBe(2);
  });
});

describe("Raft section 5.4.3, consequences", () => {
  test("committed entries of a term are in the logs of all later leaders (Leader Completeness)", () => {
    const cluster = new Cluster(five);
    let committed: readonly Entry[] = [];
    let refused = 0;
    for (let round = 0; round < 10; round++) {
      const candidate = five[(round * 3) % 5]!;
      cluster.act(candidate, (raft) => raft.campaign());
      cluster.deliver((flight) => !isAppend(flight));
      cluster.drop();
      if (cluster.raft(candidate).role !== "leader") {
        refused += 1;
        continue;
      }
      for (const { index, term } of committed) expect(cluster.raft(candidate).log.termAt(index)).toBe(term);
      const majority = [0, 1, 2].map((step) => five[(round * 3 + step) % 5]!);
      cluster.partition(majority);
      cluster.propose(candidate, `${round}`);
      cluster.pass(2);
      cluster.heal();
      expect(cluster.applied(candidate).length).toBeGreaterThan(committed.length + 1);
      committed = [...cluster.applied(candidate)];
    }
    expect(committed.length).toBeGreaterThan(6);
    expect(refused).toBeGreaterThan(2);
  });

  test("no two servers apply different entries at one index (State Machine Safety)", () => {
    const cluster = new Cluster(
      ids,
      { term: 2 },
      { n1: { terms: [1, 2] }, n2: { terms: [1, 1, 1] }, n3: { terms: [1] } },
    );
    cluster.elect("n1");
    cluster.propose("n1", "a");
    cluster.deliver();
    expect(cluster.applied("n1").map(({ term }) => term)).toEqual([1, 2, 3, 3]);
    for (const id of ids) expect(cluster.applied(id)).toEqual(cluster.applied("n1"));
  });
});

describe("Raft section 5.5, crashes of followers and candidates", () => {
  test("requests to a server that is down are sent again, and succeed when it is back", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.crash("n2");
    cluster.propose("n1", "a");
    cluster.pass(10);
    cluster.restart("n2");
    cluster.pass(2);
    expect(cluster.raft("n2").log.last.index).toBe(2);
  });

  test("a candidate that crashes loses its candidacy, and not its vote", () => {
    const cluster = new Cluster(ids);
    cluster.act("n1", (raft) => raft.campaign());
    cluster.restart("n1");
    expect(cluster.raft("n1").role).toBe("follower");
    expect(ask(cluster.raft("n1"), requestVote(1, [9, 1], { from: "n2" }))).toMatchObject({ granted: false });
  });

  test("a server that crashed between its work and its answer accepts the same request again", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.propose("n1", "a");
    const [again] = cluster.flights(isTo("n2"));
    cluster.deliver(isTo("n2"));
    cluster.restart("n2");
    cluster.arrive(again!);
    cluster.deliver();
    expect(termsOf(cluster.raft("n2"))).toEqual([1, 1]);
    expect(cluster.raft("n1").log.commit).toBe(2);
  });

  test("AppendEntries whose entries are in the log already change nothing", () => {
    const raft = startNode({ terms: [1, 1, 2] });
    raft.step(append({ entries: commands(1, [1, 1]), term: 2 }));
    const { entries, messages } = settle(raft);
    expect(entries).toEqual([]);
    expect(messages).toMatchObject([{ matchIndex: 2, lastIndex: 3 }]);
  });

  test("a vote that is requested twice changes nothing", () => {
    const cluster = new Cluster(ids);
    cluster.act("n1", (raft) => raft.campaign());
    const [again] = cluster.flights((flight) => isVoteRequest(flight) && isTo("n2")(flight));
    cluster.deliver(isTo("n2"));
    cluster.restart("n2");
    cluster.arrive(again!);
    cluster.deliver(isFrom("n2"));
    expect(cluster.raft("n1").role).toBe("leader");
  });
});

describe("Raft section 5.6, timing", () => {
  test("safety does not depend on timing: no entry is applied differently, however late messages come", () => {
    const cluster = new Cluster(
      ids,
      { elections: "automatic" },
      { n2: { electionTicks: 7 }, n3: { electionTicks: 13 } },
    );
    let proposed = 0;
    for (let step = 0; step < 400; step++) {
      cluster.tick(1, [ids[step % 3]!]);
      if (step % 5 === 0) cluster.deliver((flight) => flight.to !== ids[(step / 5) % 3]);
      if (step % 7 !== 0) continue;
      const [leader] = cluster.leaders;
      if (leader !== undefined) cluster.propose(leader, `${proposed++}`);
    }
    cluster.pass(40);
    expect(proposed).toBeGreaterThan(20);
    for (const id of ids) expect(cluster.applied(id)).toEqual(cluster.applied("n1"));
  });

  test("heartbeats come faster than election timeouts, and other settings are refused at the start", () => {
    expect(() => startNode({ electionTicks: 5, heartbeatTicks: 5 })).toThrow(
      "heartbeats come within an election timeout",
    );
    expect(() => startNode({ electionTicks: 1 })).toThrow("an election timeout has 2 ticks or more");
  });
});
