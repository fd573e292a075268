import { describe, expect, test } from "vitest";
import type { Raft } from "../../../src/raft/raft.js";
import {
  accept,
  append,
  appendsOf,
  bytes,
  commands,
  elected,
  type NodeSetup,
  progressOf,
  propose,
  refuse,
  settle,
  toN2,
} from "../../support/nodes/core.js";
import { Cluster } from "../cluster.js";

describe("entries that have left the memory", () => {
  /** n1 leads with ten entries that it has only on disk, and n2 lacks all but the first one. */
  function lagging() {
    const { raft, requests } = elected(["n2", "n3"], {
      terms: Array(10).fill(1),
      commit: 10,
      applied: 10,
      limits: { windowBytes: 0 },
    });
    raft.receive(accept(requests[1]!));
    settle(raft);
    raft.receive(refuse(requests[0]!, { conflictIndex: 2 }));
    return raft;
  }

  test("are requested only as far as they are on disk", () => {
    const raft = lagging();
    // Not written yet, and not even handed out to be.
    raft.propose(bytes("a"));
    expect(raft.takeMessages().filter(({ to }) => to === "n2")).toEqual([]);
    expect(raft.log.persisted).toBe(11);
    expect(raft.takeLogReads()).toMatchObject([{ to: "n2", term: 2, first: 2, last: 11 }]);
  });

  test("are sent when they are read, with the entries in memory after them", () => {
    const raft = lagging();
    raft.takeMessages();
    const [read] = raft.takeLogReads();
    expect(raft.takeLogReads()).toEqual([]);
    raft.propose(bytes("a"));
    expect(toN2(raft)).toEqual([]);
    raft.entriesRead(read!, commands(2, Array(9).fill(1)));
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: { length: 9 } }]);
  });

  test("are requested again when they could not be read", () => {
    const raft = lagging();
    settle(raft);
    const [read] = raft.takeLogReads();
    raft.entriesRead(read!, []);
    expect(toN2(raft)).toEqual([]);
    expect(raft.takeLogReads()).toEqual([read]);
  });

  test("are requested within the limits of one message", () => {
    const limits = { windowBytes: 0, appendEntries: 3, appendBatchBytes: 77 };
    const { raft, requests } = elected(["n2", "n3"], { terms: Array(10).fill(1), commit: 10, applied: 10, limits });
    raft.receive(refuse(requests[0]!, { conflictIndex: 2 }));
    settle(raft);
    expect(raft.takeLogReads()).toEqual([{ to: "n2", term: 2, first: 2, last: 4, maxBytes: 77 }]);
  });

  test("are not sent when they were read for an earlier term, a node that is no member, or a member that needs others now", () => {
    const raft = lagging();
    settle(raft);
    const [read] = raft.takeLogReads();
    const entries = commands(2, [1, 1]);
    raft.entriesRead({ ...read!, term: 1 }, entries);
    raft.entriesRead({ ...read!, to: "n9" }, entries);
    expect(toN2(raft)).toEqual([]);
    raft.entriesRead(read!, commands(5, [1, 1]));
    expect(toN2(raft)).toEqual([]);
    raft.step(append({ term: 3 }));
    expect(raft.takeLogReads()).toEqual([]);
    raft.entriesRead({ ...read!, term: 3 }, entries);
    expect(toN2(raft)).toEqual([]);
  });

  test("are replaced by the snapshot when they were trimmed while they were being read", () => {
    const raft = lagging();
    raft.takeMessages();
    const [read] = raft.takeLogReads();
    raft.snapshotTaken({ index: 10, term: 1 }, 10);
    raft.entriesRead(read!, commands(2, [1, 1, 1]));
    expect(raft.takeMessages()).toEqual([]);
    expect(raft.takeSnapshotSends()).toEqual([{ to: "n2", term: 2 }]);
  });
});

describe("a follower that is ahead of the snapshot that it was to get", () => {
  /** n3 was to get the snapshot up to 6, and has committed that already. Its log starts at 1. */
  function ahead() {
    const setup = { boundary: { index: 6, term: 1 }, commit: 6, applied: 6 };
    const { raft, requests } = elected(["n2", "n3"], setup);
    raft.receive(refuse(requests[1]!, { conflictIndex: 2 }));
    settle(raft);
    const [send] = raft.takeSnapshotSends();
    expect(send).toEqual({ to: "n3", term: 2 });
    raft.tick();
    const heartbeat = appendsOf(settle(raft)).find(({ to }) => to === "n3")!;
    raft.snapshotSent(send!, { kind: "ahead", commitIndex: 6 });
    return { raft, heartbeat };
  }

  test("is asked where its log agrees from there on", () => {
    const { raft } = ahead();
    expect(appendsOf(settle(raft))).toMatchObject([{ to: "n3", prev: { index: 6, term: 1 } }]);
    expect(progressOf(raft, "n3")).toMatchObject({ state: "probe", match: 0, next: 7 });
  });

  test("is not sent another snapshot because of its older answer to a heartbeat", () => {
    const { raft, heartbeat } = ahead();
    const [probe] = appendsOf(settle(raft));
    expect(heartbeat.prev.index).toBe(0);
    raft.receive(accept(heartbeat, 0));
    settle(raft);
    expect(raft.takeSnapshotSends()).toEqual([]);
    raft.receive(accept(probe!));
    expect(progressOf(raft, "n3")).toMatchObject({ state: "replicate", match: 7 });
  });
});

describe("a member that needs trimmed entries", () => {
  const behind = { boundary: { index: 6, term: 1 }, terms: [1], commit: 6, applied: 6 };

  /** n1 leads, and n2 has told that its log ends at 2. */
  function leading(setup: NodeSetup = {}) {
    const { raft, requests } = elected(["n2", "n3"], { ...behind, ...setup });
    raft.receive(refuse(requests[0]!, { conflictIndex: 3 }));
    settle(raft);
    const [send] = raft.takeSnapshotSends();
    return { raft, send: send! };
  }

  test("is served by a leader whose whole log is trimmed and that knows nothing about it (R11)", () => {
    const cluster = new Cluster(
      ["n1", "n2", "n3"],
      {},
      { n1: { boundary: { index: 6, term: 1 }, commit: 6, applied: 6 } },
    );
    cluster.elect("n1");
    cluster.snapshot("n1");
    const { boundary, last } = cluster.raft("n1").log;
    expect([boundary.index, last.index]).toEqual([7, 7]);
    cluster.start("n4");
    cluster.act("n1", (raft) => raft.changeMembership({ type: "add_learner", id: "n4", address: "" }));
    cluster.deliver();
    cluster.pass(2);
    for (const id of ["n2", "n3", "n4"]) {
      expect(progressOf(cluster.raft("n1"), id)).toMatchObject({ state: "replicate", match: 8 });
      expect(cluster.disk(id).applied).toBe(8);
    }
  });

  test("is sent the newest snapshot, once", () => {
    const { raft, send } = leading();
    expect(send).toEqual({ to: "n2", term: 2 });
    propose(raft, 1);
    settle(raft);
    expect(raft.takeSnapshotSends()).toEqual([]);
  });

  test("gets no entries, and heartbeats without a question, whose answers say nothing", () => {
    const { raft } = leading();
    propose(raft, 2);
    raft.tick();
    const sent = toN2(raft);
    expect(sent).toMatchObject([{ prev: { index: 0, term: 0 }, entries: [] }]);
    raft.receive(accept(sent[0]!, 2));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 2 });
    raft.receive(refuse(sent[0]!, { conflictIndex: 1 }));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 2 });
  });

  test("continues behind the snapshot when that is installed", () => {
    const { raft, send } = leading();
    raft.snapshotSent(send, { kind: "installed", matchIndex: 6 });
    const sent = toN2(raft);
    expect(sent).toMatchObject([{ prev: { index: 6 }, entries: [{ index: 7 }, { index: 8 }] }]);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 6 });
    raft.receive(accept(sent[0]!));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 8 });
  });

  test("continues when an AppendEntries answer, and not the stream's end, reports the snapshot (R14)", () => {
    const { raft, send } = leading();
    raft.tick();
    raft.receive(accept(toN2(raft)[0]!, 6));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 6, next: 7 });
    expect(toN2(raft)).toMatchObject([{ prev: { index: 6 }, entries: [{ index: 7 }, { index: 8 }] }]);
    // And the stream's end then, whatever it is, takes nothing back.
    raft.snapshotSent(send, { kind: "failed" });
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 6 });
    expect(ticksUntilSend(raft)).toBe(Number.POSITIVE_INFINITY);
  });

  test("counts as heard from when it has received the snapshot", () => {
    const { raft, send } = leading({ elections: "automatic", electionTicks: 3 });
    for (let tick = 0; tick < 3; tick++) raft.tick();
    raft.snapshotSent(send, { kind: "installed", matchIndex: 6 });
    for (let tick = 0; tick < 3; tick++) raft.tick();
    expect(raft.role).toBe("leader");
    for (let tick = 0; tick < 3; tick++) raft.tick();
    expect(raft.role).toBe("follower");
  });

  test("gets the next snapshot when the entries behind its own are trimmed meanwhile", () => {
    const { raft, send } = leading();
    settle(raft);
    raft.tick();
    for (const request of appendsOf(settle(raft))) if (request.to === "n3") raft.receive(accept(request));
    for (const request of appendsOf(settle(raft))) if (request.to === "n3") raft.receive(accept(request));
    settle(raft);
    expect(raft.snapshotTaken({ index: 8, term: 2 }, 8)).toBe(true);
    raft.snapshotSent(send, { kind: "installed", matchIndex: 6 });
    settle(raft);
    expect(raft.takeSnapshotSends()).toEqual([{ to: "n2", term: 2 }]);
  });

  /** Ticks until n2 is to be sent a snapshot again. */
  function ticksUntilSend(raft: Raft): number {
    for (let ticks = 1; ticks <= 500; ticks++) {
      raft.tick();
      if (raft.takeSnapshotSends().length > 0) return ticks;
    }
    return Number.POSITIVE_INFINITY;
  }

  test("is sent the snapshot again after each failure, with a delay that grows to eight election timeouts", () => {
    const { raft, send } = leading({ electionTicks: 5, heartbeatTicks: 2 });
    const waited = Array.from({ length: 7 }, () => {
      raft.snapshotSent(send, { kind: "failed" });
      return ticksUntilSend(raft);
    });
    expect(waited).toEqual([2, 4, 8, 16, 32, 40, 40]);
  });

  test("is soon sent the rest when a part has arrived, however often the transfer breaks off", () => {
    const { raft, send } = leading({ electionTicks: 5, heartbeatTicks: 2 });
    const waited = [false, false, true, true, false, false].map((hasProgressed) => {
      raft.snapshotSent(send, { kind: "failed", hasProgressed });
      return ticksUntilSend(raft);
    });
    expect(waited).toEqual([2, 4, 2, 2, 4, 8]);
  });

  test("is not sent the snapshot again while it is being sent", () => {
    expect(ticksUntilSend(leading().raft)).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    ["installed", { kind: "installed", matchIndex: 99 } as const],
    ["committed", { kind: "ahead", commitIndex: 99 } as const],
  ])("is not believed when it claims (%s) more than this leader has: the transfer counts as failed", (_, outcome) => {
    const { raft, send } = leading();
    raft.snapshotSent(send, outcome);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 0 });
    expect(ticksUntilSend(raft)).toBe(1);
  });

  test("ends its transfer only in the leader's own term, and only as a member", () => {
    const { raft, send } = leading();
    raft.snapshotSent({ ...send, term: 1 }, { kind: "installed", matchIndex: 6 });
    raft.snapshotSent({ ...send, to: "n9" }, { kind: "installed", matchIndex: 6 });
    expect(progressOf(raft, "n2")).toMatchObject({ state: "snapshot", match: 0 });
    raft.step(append({ term: 3 }));
    raft.snapshotSent({ ...send, term: 3 }, { kind: "installed", matchIndex: 6 });
    expect(raft.progress).toEqual([]);
  });

  test("may let a commit proceed by the entries that it then has", () => {
    const { raft, requests } = elected(["n2"], behind);
    raft.receive(refuse(requests[0]!, { conflictIndex: 3 }));
    raft.readIndex(1);
    settle(raft);
    const [send] = raft.takeSnapshotSends();
    raft.snapshotSent(send!, { kind: "installed", matchIndex: 8 });
    expect(raft.log.commit).toBe(8);
  });
});
