import { describe, expect, test } from "vitest";
import {
  accept,
  advance,
  append,
  appendsOf,
  bytes,
  command,
  commands,
  progressOf,
  refuse,
  settle,
  startLeaderOf,
  startNode,
} from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isTo } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
function led() {
  const cluster = new Cluster(ids);
  cluster.elect("n1");
  return cluster;
}

describe("thesis section 10.2.1, writing to the leader's disk in parallel", () => {
  test("a leader sends entries while it is still writing them itself", () => {
    const cluster = led();
    cluster.holdDisk("n1");
    cluster.propose("n1", "a");
    expect(cluster.disk("n1").last.index).toBe(1);
    expect(cluster.flights(isAppend)).toHaveLength(2);
  });

  test("a leader counts itself only when its entries are durable", () => {
    const cluster = led();
    cluster.holdDisk("n1");
    cluster.propose("n1", "a");
    cluster.deliver((flight) => isTo("n2")(flight) || isFrom("n2")(flight));
    expect(cluster.raft("n1").log.commit).toBe(1);
    cluster.releaseDisk("n1");
    expect(cluster.raft("n1").log.commit).toBe(2);
  });

  test("an entry that a majority of the others has may be committed before it is on the leader's disk", () => {
    const cluster = led();
    cluster.holdDisk("n1");
    cluster.propose("n1", "a");
    cluster.deliver();
    expect([cluster.raft("n1").log.commit, cluster.raft("n1").log.persisted]).toEqual([2, 1]);
    // It is safe with the others, whatever becomes of this disk.
    cluster.crash("n1");
    cluster.elect("n2");
    expect(cluster.applied("n2")).toContainEqual(command(2, 1, "a"));
  });

  test("a leader applies an entry only when it is durable on its own disk", () => {
    const cluster = led();
    cluster.holdDisk("n1");
    cluster.propose("n1", "a");
    cluster.deliver();
    expect(cluster.applied("n1")).toHaveLength(1);
    cluster.releaseDisk("n1");
    expect(cluster.applied("n1")).toHaveLength(2);
  });

  test("a follower answers only after its write", () => {
    const cluster = led();
    cluster.holdDisk("n2");
    cluster.propose("n1", "a");
    cluster.deliver(isTo("n2"));
    expect(cluster.flights(isFrom("n2"))).toEqual([]);
    cluster.releaseDisk("n2");
    expect(cluster.flights(isFrom("n2"))).toMatchObject([{ message: { matchIndex: 2 } }]);
  });

  test("a candidate asks for votes only when its vote for itself is durable", () => {
    const cluster = new Cluster(ids);
    cluster.holdDisk("n1");
    cluster.act("n1", (raft) => raft.campaign());
    expect(cluster.flights()).toEqual([]);
    cluster.releaseDisk("n1");
    expect(cluster.flights()).toHaveLength(2);
  });
});

describe("thesis section 10.2.2, batching and pipelining", () => {
  test("entries that gather while a batch is being written form the next batch", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const first = raft.ready();
    for (const text of ["b", "c"]) raft.propose(bytes(text));
    advance(raft, first);
    expect(raft.ready().entries.map(({ index }) => index)).toEqual([3, 4]);
  });

  test("entries that gather between two messages go in one", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    for (const text of ["a", "b", "c"]) raft.propose(bytes(text));
    const sent = appendsOf(settle(raft));
    expect(sent.map(({ to, entries }) => [to, entries.length])).toEqual([
      ["n2", 3],
      ["n3", 3],
    ]);
  });

  test("a leader does not wait for answers: it assumes that sent entries arrive", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    for (const text of ["a", "b", "c"]) {
      raft.propose(bytes(text));
      expect(appendsOf(settle(raft)).filter(({ to }) => to === "n2")).toHaveLength(1);
    }
    expect(progressOf(raft, "n2")).toMatchObject({ match: 1, next: 5 });
  });

  test("a leader goes back and sends again when a message is lost", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    settle(raft);
    raft.propose(bytes("b"));
    const second = appendsOf(settle(raft)).find(({ to }) => to === "n2")!;
    raft.receive(refuse(second, { conflictIndex: 2 }));
    const again = appendsOf(settle(raft)).filter(({ to }) => to === "n2");
    expect(again).toMatchObject([{ prev: { index: 1 }, entries: [{ index: 2 }, { index: 3 }] }]);
    raft.receive(accept(again[0]!));
    expect(progressOf(raft, "n2")).toMatchObject({ match: 3, state: "replicate" });
  });

  test("messages that overtake each other do no harm", () => {
    const raft = startNode({ term: 1 });
    raft.step(append({ prev: [1, 1], entries: commands(2, [1]) }));
    raft.step(append({ entries: commands(1, [1]) }));
    raft.step(append({ prev: [1, 1], entries: commands(2, [1]) }));
    expect(settle(raft).entries).toEqual(commands(1, [1, 1]));
  });
});
