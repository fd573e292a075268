import { describe, expect, test } from "vitest";
import {
  append,
  ask,
  commands,
  configuration,
  install,
  logFacts,
  progressOf,
  settle,
  startNode,
  termsOf,
  voters,
} from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, type MemberSetup } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
const isSnapshot = ({ kind }: { kind: string }) => kind === "snapshot";

/** n1 leads, has trimmed its log up to 6, and n3 has nothing of it. */
function trimmed(setup: MemberSetup = {}) {
  const cluster = new Cluster(ids, setup);
  cluster.elect("n1");
  cluster.partition(["n1", "n2"], ["n3"]);
  for (const text of ["a", "b", "c", "d", "e"]) cluster.propose("n1", text);
  cluster.deliver();
  cluster.snapshot("n1");
  expect(cluster.raft("n1").log.boundary).toEqual({ index: 6, term: 1 });
  cluster.heal();
  return cluster;
}

describe("Raft section 7, log compaction", () => {
  test("each server takes snapshots on its own", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.propose("n1", "a");
    cluster.deliver();
    cluster.snapshot("n2");
    expect(ids.map((id) => cluster.raft(id).log.boundary.index)).toEqual([0, 2, 0]);
    expect(cluster.flights()).toEqual([]);
  });

  test("a snapshot covers committed entries, and nothing else", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 2, applied: 2 });
    expect(() => raft.snapshotTaken({ index: 3, term: 1 }, 2)).toThrow("applied moves up, to committed entries only");
  });

  test("a snapshot's last index and term are kept for the consistency check of the entry behind it", () => {
    const raft = startNode({ terms: [1, 2, 2], commit: 3, applied: 3 });
    raft.snapshotTaken({ index: 3, term: 2 }, 3);
    expect(ask(raft, append({ prev: [3, 2], entries: commands(4, [2]) }))).toMatchObject({ matchIndex: 4 });
    expect(raft.snapshot).toEqual({ index: 3, term: 2 });
  });

  test("a snapshot holds the configuration in force at its index, not a later one", () => {
    const raft = startNode();
    const [early, late] = [voters("n1", "n2"), voters("n1", "n2", "n3")];
    const entries = [configuration(1, 1, early), ...commands(2, [1]), configuration(3, 1, late)];
    ask(raft, append({ entries, commit: 3 }));
    expect(raft.membershipAt(2)).toEqual({ index: 1, members: early });
    raft.snapshotTaken({ index: 2, term: 1 }, 2);
    expect([raft.membershipAt(2), raft.membership]).toEqual([
      { index: 1, members: early },
      { index: 3, members: late },
    ]);
  });

  test("a snapshot that is written lets the entries up to its index and the earlier snapshot be removed", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 3, applied: 3 });
    raft.snapshotTaken({ index: 1, term: 1 }, 1);
    raft.snapshotTaken({ index: 3, term: 1 }, 3);
    expect([raft.log.boundary.index, termsOf(raft), raft.snapshot?.index]).toEqual([3, [], 3]);
  });

  test("a leader sends a snapshot to a follower when it has discarded the next entry that the follower needs", () => {
    const cluster = trimmed();
    cluster.pass(1);
    cluster.deliver();
    expect(cluster.raft("n3").log.boundary).toEqual({ index: 6, term: 1 });
    expect(cluster.disk("n3").applied).toBe(6);
  });

  test("a leader sends entries, not a snapshot, to a follower that lags only a little", () => {
    const cluster = trimmed();
    cluster.elect("n2");
    expect(cluster.raft("n3").log.boundary.index).toBe(0);
    expect(cluster.raft("n3").log.last.index).toBe(7);
  });

  test("the entries behind a snapshot are sent as entries", () => {
    const cluster = trimmed();
    cluster.tick(1, ["n1"]);
    cluster.deliver((flight) => !isSnapshot(flight));
    expect(cluster.flights(isSnapshot).map(({ to }) => to)).toEqual(["n3"]);
    cluster.propose("n1", "f");
    cluster.deliver();
    expect(termsOf(cluster.raft("n3"))).toEqual([1]);
    expect(cluster.disk("n3").applied).toBe(7);
    expect(progressOf(cluster.raft("n1"), "n3")).toMatchObject({ state: "replicate", match: 7 });
  });

  test("a follower drops its log for a snapshot with newer entries, even conflicting ones of its own", () => {
    const raft = startNode({ terms: [1, 1, 2, 2, 2, 2], commit: 1, applied: 1 });
    expect(ask(raft, install([4, 3]))).toMatchObject({ outcome: "installed" });
    expect([raft.log.boundary, raft.log.last]).toEqual([
      { index: 4, term: 3 },
      { index: 4, term: 3 },
    ]);
  });

  test("a follower keeps the entries behind a snapshot of a prefix of its log", () => {
    const raft = startNode({ terms: [1, 1, 2, 2, 2, 2], commit: 1, applied: 1 });
    expect(ask(raft, install([4, 2]))).toMatchObject({ outcome: "installed" });
    expect([raft.log.boundary.index, termsOf(raft)]).toEqual([4, [2, 2]]);
  });
});

describe("Raft figure 13, InstallSnapshot RPC", () => {
  test("receiver 1 refuses at once when term < currentTerm", () => {
    const raft = startNode({ terms: [4] });
    raft.step(install([9, 3]));
    expect(raft.takeMessages()).toMatchObject([{ outcome: "stale_term", term: 4 }]);
    expect(raft.isInstalling).toBe(false);
  });

  test("receiver 5 discards the snapshot with the smaller index", () => {
    const raft = startNode({ term: 1 });
    ask(raft, install([9, 1]));
    expect(ask(raft, install([5, 1]))).toMatchObject({ outcome: "already_committed", matchIndex: 9 });
    expect(raft.snapshot).toEqual({ index: 9, term: 1 });
  });

  test("receiver 6 retains the entries behind the snapshot when the log has its last entry", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 1, applied: 1 });
    ask(raft, install([2, 1]));
    expect(termsOf(raft)).toEqual([1]);
  });

  test("receiver 7 discards the whole log when the log does not have that entry", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 1, applied: 1 });
    ask(raft, install([2, 2]));
    expect(termsOf(raft)).toEqual([]);
  });

  test("receiver 8 resets the state machine and the configuration to the snapshot's", () => {
    const raft = startNode({ terms: [1], commit: 1, applied: 1 });
    const membership = { index: 3, members: voters(...ids) };
    raft.step(install([5, 2], { membership }));
    expect(settle(raft).readys.find(({ snapshot }) => snapshot !== undefined)?.snapshot).toMatchObject({
      index: 5,
      term: 2,
    });
    expect([raft.log.applied, raft.membership]).toEqual([5, membership]);
  });

  test("the sender is the leader, and its message restarts the election timer like any leader's", () => {
    const raft = startNode({ elections: "automatic", memberships: [{ index: 0, members: voters(...ids) }] });
    for (let tick = 0; tick < 9; tick++) raft.tick();
    ask(raft, install([5, 1], { membership: { index: 0, members: voters(...ids) } }));
    for (let tick = 0; tick < 9; tick++) raft.tick();
    expect([raft.leader, raft.role]).toEqual(["n2", "follower"]);
  });

  test("the result term tells a deposed leader so, in the answers to the heartbeats beside the snapshot", () => {
    const cluster = trimmed();
    cluster.tick(1, ["n1"]);
    cluster.deliver((flight) => isAppend(flight) || isFrom("n3")(flight));
    cluster.partition(["n1"], ["n2", "n3"]);
    cluster.elect("n2");
    cluster.heal();
    cluster.deliver(isSnapshot);
    cluster.pass(2);
    expect([cluster.raft("n1").role, cluster.raft("n1").term, cluster.raft("n3").leader]).toEqual([
      "follower",
      2,
      "n2",
    ]);
  });

  test("a snapshot whose answer is lost is offered again, and changes nothing the second time", () => {
    const cluster = trimmed();
    cluster.tick(1, ["n1"]);
    cluster.deliver(({ kind }) => kind !== "snapshot_end");
    const before = logFacts(cluster.raft("n3"));
    cluster.drop();
    cluster.pass(3);
    expect(logFacts(cluster.raft("n3"))).toEqual(before);
    expect(progressOf(cluster.raft("n1"), "n3")).toMatchObject({ state: "replicate", match: 6 });
  });

  test("a follower that installs a snapshot answers heartbeats, and so keeps its leader in office", () => {
    const cluster = trimmed({ elections: "automatic", electionTicks: 5 });
    cluster.crash("n2");
    cluster.holdDisk("n3");
    cluster.pass(30);
    expect(cluster.raft("n3").isInstalling).toBe(true);
    expect(cluster.leaders).toEqual(["n1"]);
    expect(progressOf(cluster.raft("n1"), "n3")).toMatchObject({ match: 1, state: "snapshot" });
    cluster.releaseDisk("n3");
    cluster.deliver();
    expect(progressOf(cluster.raft("n1"), "n3")).toMatchObject({ match: 6, state: "replicate" });
  });
});
