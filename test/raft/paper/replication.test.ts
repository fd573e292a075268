import { describe, expect, test } from "vitest";
import {
  append,
  appendsOf,
  ask,
  bytes,
  command,
  commands,
  elected,
  refuse,
  settle,
  startNode,
  termsOf,
} from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isTo } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
describe("Raft section 5.3, replication", () => {
  test("a command becomes a new entry, and AppendEntries take it to all other servers at the same time", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.propose("n1", "a");
    expect(cluster.raft("n1").log.last).toEqual({ index: 2, term: 1 });
    expect(cluster.flights(isAppend).map(({ to }) => to)).toEqual(["n2", "n3"]);
    for (const { message } of cluster.flights(isAppend))
      expect(message).toMatchObject({ entries: [command(2, 1, "a")] });
  });

  test("a leader applies an entry when it is safely replicated", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.propose("n1", "a");
    expect(cluster.applied("n1")).toHaveLength(1);
    cluster.deliver(isTo("n2"));
    expect(cluster.applied("n1")).toHaveLength(1);
    cluster.deliver(isFrom("n2"));
    expect(cluster.applied("n1").at(-1)).toEqual(command(2, 1, "a"));
  });

  test("a follower that is down, slow or cut off is sent entries again until it has all, long after they are committed", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.crash("n3");
    for (let at = 0; at < 20; at++) cluster.propose("n1", `${at}`);
    cluster.pass(50);
    expect(cluster.raft("n1").log.applied).toBe(21);
    cluster.restart("n3");
    cluster.pass(3);
    expect(cluster.applied("n3")).toEqual(cluster.applied("n1"));
  });

  test("a single slow server does not hold up the others", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    for (let at = 0; at < 20; at++) {
      cluster.propose("n1", `${at}`);
      cluster.deliver((flight) => flight.to !== "n3");
    }
    expect([cluster.raft("n1").log.commit, cluster.raft("n2").log.commit]).toEqual([21, 21]);
  });

  test("an entry is committed when the leader that created it has it on a majority", () => {
    const five = ["n1", "n2", "n3", "n4", "n5"];
    const cluster = new Cluster(five);
    const raft = cluster.elect("n1");
    cluster.propose("n1", "a");
    cluster.deliver(isTo("n2"));
    cluster.deliver(isFrom("n2"));
    expect(raft.log.commit).toBe(1);
    cluster.deliver(isTo("n5"));
    cluster.deliver(isFrom("n5"));
    expect(raft.log.commit).toBe(2);
  });

  test("a committed entry commits all entries before it, even those of earlier leaders", () => {
    const cluster = new Cluster(ids, { terms: [1, 1, 2], term: 2 });
    cluster.elect("n1");
    for (const id of ids) expect(cluster.applied(id).map(({ term }) => term)).toEqual([1, 1, 2, 3]);
  });

  test("all later AppendEntries carry the highest committed index, so that the others learn it", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.propose("n1", "a");
    cluster.deliver(isTo("n2"));
    cluster.deliver(isFrom("n2"));
    cluster.drop();
    cluster.tick(1, ["n1"]);
    for (const { message } of cluster.flights(isAppend))
      expect(message).toMatchObject({ leaderCommit: 2, entries: [] });
    cluster.propose("n1", "b");
    for (const { message } of cluster.flights(isAppend)) expect(message).toMatchObject({ leaderCommit: 2 });
    cluster.deliver();
    expect(ids.map((id) => cluster.raft(id).log.commit)).toEqual([3, 3, 3]);
  });

  test("a follower that learns that an entry is committed applies it, in the order of the log", () => {
    const raft = startNode();
    ask(raft, append({ entries: commands(1, [1, 1, 1]) }));
    raft.step(append({ prev: [3, 1], commit: 2 }));
    expect(settle(raft).committed).toEqual(commands(1, [1, 1]));
  });
});

describe("Raft section 5.3, log matching", () => {
  test("a leader creates at most one entry for an index in its term, and entries never change their index", () => {
    const cluster = new Cluster(ids);
    const raft = cluster.elect("n1");
    const positions = ["a", "b", "c"].map((text) => cluster.act("n1", () => raft.propose(bytes(text))));
    expect(positions).toEqual([2, 3, 4].map((index) => ({ accepted: { index, term: 1 } })));
    cluster.deliver();
    for (const id of ids) expect(cluster.disk(id).entries.map(({ index }) => index)).toEqual([1, 2, 3, 4]);
  });

  test("AppendEntries name the index and term of the entry right before the new ones", () => {
    const { requests } = elected(["n2", "n3"], { terms: [1, 3] });
    expect(requests[0]).toMatchObject({ prev: { index: 2, term: 3 }, entries: [{ index: 3, term: 4 }] });
  });

  test("a follower that lacks the entry before the new ones refuses them", () => {
    const raft = startNode({ terms: [1, 1] });
    expect(ask(raft, append({ prev: [2, 2], entries: commands(3, [2]) }))).toMatchObject({
      rejection: { reason: "log_mismatch" },
    });
    expect(termsOf(raft)).toEqual([1, 1]);
  });

  test("a leader never changes or removes an entry of its own log (Leader Append-Only)", () => {
    const cluster = new Cluster(
      ids,
      { term: 3 },
      { n1: { terms: [1, 2] }, n2: { terms: [1, 1, 1] }, n3: { terms: [1, 1] } },
    );
    cluster.elect("n1");
    expect(termsOf(cluster.raft("n1"))).toEqual([1, 2, 4]);
    cluster.propose("n1", "a");
    cluster.deliver();
    expect(termsOf(cluster.raft("n1"))).toEqual([1, 2, 4, 4]);
  });
});

/** Raft figure 7: the leader of term 8, and what its followers may hold. */
const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
const figure7: Readonly<Record<string, readonly number[]>> = {
  a: [1, 1, 1, 4, 4, 5, 5, 6, 6],
  b: [1, 1, 1, 4],
  c: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
  d: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
  e: [1, 1, 1, 4, 4, 4, 4],
  f: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
};

describe("Raft section 5.3, figure 7: a leader makes followers' logs duplicates of its own", () => {
  function newLeader() {
    const followers = Object.entries(figure7).map(([id, terms]) => [id, { terms, term: 7 }] as const);
    const cluster = new Cluster(
      ["n1", ...Object.keys(figure7)],
      { terms: leaderTerms, term: 7 },
      Object.fromEntries(followers),
    );
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver((flight) => !isAppend(flight));
    expect([cluster.raft("n1").role, cluster.raft("n1").term]).toEqual(["leader", 8]);
    return cluster;
  }

  test.each([
    ["(a) misses an entry", "a"],
    ["(b) misses several", "b"],
    ["(c) has one more, not committed", "c"],
    ["(d) has several more, of a later term", "d"],
    ["(e) misses some and has others in their place", "e"],
    ["(f) has the entries of two terms that nobody else knows", "f"],
  ])("when the log %s", (_, id) => {
    const cluster = newLeader();
    cluster.deliver((flight) => isTo(id)(flight) || isFrom(id)(flight));
    expect(termsOf(cluster.raft(id))).toEqual([...leaderTerms, 8]);
    expect(cluster.disk(id).entries).toEqual([...commands(1, leaderTerms), expect.objectContaining({ term: 8 })]);
  });

  test("when all of them differ, and then all apply the committed entries alike", () => {
    const cluster = newLeader();
    cluster.deliver();
    for (const id of Object.keys(figure7)) expect(cluster.applied(id)).toEqual(cluster.applied("n1"));
    expect(cluster.applied("n1")).toHaveLength(11);
  });

  test("after one message for each differing term, not for each entry", () => {
    const cluster = newLeader();
    const refusals = (id: string) => {
      let count = 0;
      for (;;) {
        const flight = cluster.flights((each) => isTo(id)(each) || isFrom(id)(each))[0];
        if (flight === undefined) return count;
        if (flight.message.type === "append_entries_answer" && flight.message.outcome === "rejected") count++;
        cluster.deliverOne(flight);
      }
    };
    expect(Object.keys(figure7).map((id) => [id, refusals(id)])).toEqual([
      ["a", 1],
      ["b", 1],
      ["c", 0],
      ["d", 0],
      ["e", 2],
      ["f", 1],
    ]);
  });
});

describe("fast backtracking (Raft section 5.3)", () => {
  test("names in a refusal the term of the conflicting entry, and the first index that has it", () => {
    const raft = startNode({ terms: [1, 2, 2, 2, 3] });
    expect(ask(raft, append({ prev: [4, 4] }))).toMatchObject({ rejection: { conflictTerm: 2, conflictIndex: 2 } });
  });

  test("lets the leader skip all entries of that term", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1, 5, 5, 5] });
    raft.receive(refuse(requests[0]!, { conflictTerm: 3, conflictIndex: 2 }));
    expect(appendsOf(settle(raft))).toMatchObject([{ to: "n2", prev: { index: 2, term: 1 } }]);
  });

  test("sends nothing twice for one refusal, and no late refusal moves nextIndex", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1, 5, 5, 5] });
    const late = refuse(requests[0]!, { conflictIndex: 2 });
    raft.receive(late);
    expect(appendsOf(settle(raft))).toMatchObject([{ to: "n2", prev: { index: 1 } }]);
    raft.receive(late);
    expect(appendsOf(settle(raft))).toEqual([]);
  });
});
