import { describe, expect, test } from "vitest";
import {
  accept,
  appendsOf,
  elected,
  progressOf,
  propose,
  type RefusalSetup,
  refuse,
  settle,
  startLeaderOf,
  toN2,
} from "../../support/core.js";

describe("a member that is probed", () => {
  test("is sent one message, and another one only when it has answered or with a heartbeat", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1, 1] });
    expect(requests.filter(({ to }) => to === "n2")).toHaveLength(1);
    propose(raft, 3);
    expect(toN2(raft)).toEqual([]);
    raft.tick();
    expect(toN2(raft)).toMatchObject([{ prev: { index: 3 }, entries: [] }]);
    raft.receive(accept(requests[0]!));
    expect(toN2(raft)).toMatchObject([{ prev: { index: 4 }, entries: [{ index: 5 }, { index: 6 }, { index: 7 }] }]);
  });

  test("is asked without entries when there is none to ask with", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.unreachable("n2");
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: [] }]);
    expect(toN2(raft)).toEqual([]);
  });

  test("that refuses for safety is left alone until the next heartbeat, rather than asked in circles", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1] });
    raft.receive(refuse(requests[0]!, { reason: "safety" }));
    expect(toN2(raft)).toEqual([]);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "probe", next: 3 });
    raft.tick();
    expect(toN2(raft)).toHaveLength(1);
  });

  test("is replicated to again after a heartbeat's answer, when its probe was lost", () => {
    const { raft } = elected(["n2", "n3"], { terms: [1, 1] });
    raft.tick();
    const [heartbeat] = toN2(raft);
    raft.receive(accept(heartbeat!));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 2 });
    expect(toN2(raft)).toMatchObject([{ entries: [{ index: 3 }] }]);
  });

  test("that accepts, and can promise nothing yet, is probed on", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1] });
    raft.receive(accept(requests[0]!, 0));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "probe", match: 0 });
  });
});

describe("fast backtracking (end of Raft section 5.3)", () => {
  /** Where n1, whose log has these terms, probes next when n2 has refused its first message. */
  function nextAfter(terms: readonly number[], conflict: RefusalSetup) {
    const { raft, requests } = elected(["n2", "n3"], { terms });
    raft.receive(refuse(requests[0]!, conflict));
    return progressOf(raft, "n2")?.next;
  }

  test("a log that is shorter is asked at its end", () => {
    expect(nextAfter([1, 1, 1, 1], { conflictIndex: 2 })).toBe(2);
  });

  test("where this log's terms are above the other's, the logs cannot agree", () => {
    expect(nextAfter([1, 1, 3, 3, 3], { conflictTerm: 2, conflictIndex: 2 })).toBe(3);
  });

  test("where they are below, the logs cannot agree from the other's first entry of that term on", () => {
    expect(nextAfter([1, 1, 1, 1], { conflictTerm: 5, conflictIndex: 3 })).toBe(3);
  });

  test("it always goes back: an answer that would not is no reason to ask the same again", () => {
    expect(nextAfter([1, 1, 1], { conflictIndex: 99 })).toBe(3);
    expect(nextAfter([1, 1, 1], { conflictTerm: 1, conflictIndex: 99 })).toBe(3);
  });

  test("never below what agrees", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const [sent] = toN2(raft);
    raft.receive(refuse(sent!, { conflictIndex: 1 }));
    // An answer to a message about what agrees is one from before.
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 1 });
  });

  test("a term that is below all of this log's leads to the snapshot", () => {
    const setup = { boundary: { index: 4, term: 3 }, terms: [3, 3], commit: 4 };
    const { raft, requests } = elected(["n2", "n3"], setup);
    raft.receive(refuse(requests[0]!, { conflictTerm: 2, conflictIndex: 5 }));
    settle(raft);
    expect(raft.takeSnapshotSends()).toEqual([{ to: "n2", term: 4 }]);
  });

  test("refusals of messages that went out before the first refusal came are not answered again", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    const sent = [1, 2, 3].map(() => {
      propose(raft, 1);
      return toN2(raft)[0]!;
    });
    for (const request of sent.slice(1)) raft.receive(refuse(request, { conflictIndex: 2 }));
    expect(toN2(raft)).toHaveLength(1);
  });
});

describe("a member that is replicated to", () => {
  test("is sent no more than peerAppendsInFlight messages without an answer", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { peerAppendsInFlight: 2 } });
    const sent = [1, 2, 3].flatMap(() => {
      propose(raft, 1);
      return toN2(raft);
    });
    expect(sent.map(({ entries }) => entries[0]?.index)).toEqual([2, 3]);
    raft.receive(accept(sent[0]!));
    expect(toN2(raft)).toMatchObject([{ entries: [{ index: 4 }] }]);
  });

  test("nor more than peerBytesInFlight, but one message at least", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { peerBytesInFlight: 1 } });
    propose(raft, 1);
    const [first] = toN2(raft);
    propose(raft, 1);
    expect([first?.entries.length, toN2(raft)]).toEqual([1, []]);
  });

  test("gets no more than appendEntries entries in a message", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { appendEntries: 2 } });
    propose(raft, 5);
    expect(toN2(raft).map(({ entries }) => entries.length)).toEqual([2, 2, 1]);
  });

  test("nor more than appendBatchBytes, but one entry at least", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { appendBatchBytes: 1 } });
    propose(raft, 2);
    expect(toN2(raft).map(({ entries }) => entries.length)).toEqual([1, 1]);
  });

  test("that is held back goes on by a heartbeat's answer, when all answers to entries were lost", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { peerAppendsInFlight: 1 } });
    propose(raft, 1);
    expect(toN2(raft)).toHaveLength(1);
    propose(raft, 1);
    expect(toN2(raft)).toEqual([]);
    raft.tick();
    const [heartbeat] = toN2(raft);
    expect(heartbeat).toMatchObject({ prev: { index: 2 }, entries: [] });
    raft.receive(accept(heartbeat!));
    expect(toN2(raft)).toMatchObject([{ entries: [{ index: 3 }] }]);
  });

  test("whose entries were lost is found out by a heartbeat, which asks about them", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 2);
    toN2(raft);
    raft.tick();
    const [heartbeat] = toN2(raft);
    raft.receive(refuse(heartbeat!, { conflictIndex: 2 }));
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: [{ index: 2 }, { index: 3 }] }]);
  });

  test("learns of a commit at once, when nothing else is under way to it", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    expect(appendsOf(settle(raft)).map(({ to, leaderCommit, entries }) => [to, leaderCommit, entries.length])).toEqual([
      ["n2", 2, 0],
      ["n3", 2, 0],
    ]);
    expect(appendsOf(settle(raft))).toEqual([]);
  });

  test("with the next entries, when there are some", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const sent = appendsOf(settle(raft));
    propose(raft, 1);
    for (const request of sent) raft.receive(accept(request));
    expect(toN2(raft)).toMatchObject([{ leaderCommit: 2, entries: [{ index: 3 }] }]);
  });

  test("is probed from what agrees when its connection broke", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 3);
    toN2(raft);
    raft.unreachable("n2");
    expect(progressOf(raft, "n2")).toMatchObject({ state: "probe", match: 1, next: 2 });
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: [{ index: 2 }, { index: 3 }, { index: 4 }] }]);
  });

  test("a connection that breaks concerns no other state, and nobody else", () => {
    const { raft } = elected(["n2", "n3"], { terms: [1, 1] });
    raft.unreachable("n2");
    raft.unreachable("n9");
    expect(toN2(raft)).toEqual([]);
  });

  test("what a member claims to have beyond this leader's log is not believed", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const [sent] = toN2(raft);
    raft.receive(accept(sent!, 99));
    expect([progressOf(raft, "n2")?.match, raft.log.commit]).toEqual([1, 1]);
  });

  test("that refuses entries for safety is sent them again with the next heartbeats, and not before", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const [sent] = toN2(raft);
    raft.receive(refuse(sent!, { reason: "safety" }));
    expect(toN2(raft)).toEqual([]);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 1 });
    raft.tick();
    raft.receive(refuse(toN2(raft)[0]!, { conflictIndex: 2 }));
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: [{ index: 2 }] }]);
  });

  test("who is no member counts for nothing", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const [sent] = toN2(raft);
    raft.receive({ ...accept(sent!), from: "n9" });
    expect(raft.log.commit).toBe(1);
  });
});

describe("who is sent to", () => {
  test("all members, learners too, and not this node", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.changeMembership({ type: "add_learner", id: "n4", address: "" });
    expect(raft.progress.map(({ id, state, next }) => [id, state, next])).toEqual([
      ["n2", "replicate", 2],
      ["n3", "replicate", 2],
      ["n4", "probe", 3],
    ]);
  });

  test("who is no member any more is not", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.changeMembership({ type: "remove", id: "n3" });
    expect(raft.progress.map(({ id }) => id)).toEqual(["n2"]);
    expect(appendsOf(settle(raft)).map(({ to }) => to)).toEqual(["n2"]);
  });
});
