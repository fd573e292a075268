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
} from "../../support/nodes/core.js";

describe("a member in state probe", () => {
  test("is sent one message, and another only after its answer or with a heartbeat", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1, 1] });
    expect(requests.filter(({ to }) => to === "n2")).toHaveLength(1);
    propose(raft, 3);
    expect(toN2(raft)).toEqual([]);
    raft.tick();
    expect(toN2(raft)).toMatchObject([{ prev: { index: 3 }, entries: [] }]);
    raft.receive(accept(requests[0]!));
    expect(toN2(raft)).toMatchObject([{ prev: { index: 4 }, entries: [{ index: 5 }, { index: 6 }, { index: 7 }] }]);
  });

  test("is asked without entries when there are none to ask with", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.unreachable("n2");
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: [] }]);
    expect(toN2(raft)).toEqual([]);
  });

  test("is left alone until the next heartbeat when it refuses for safety, rather than asked in circles", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1] });
    raft.receive(refuse(requests[0]!, { reason: "safety" }));
    expect(toN2(raft)).toEqual([]);
    expect(progressOf(raft, "n2")).toMatchObject({ state: "probe", next: 3 });
    raft.tick();
    expect(toN2(raft)).toHaveLength(1);
  });

  test("is replicated to again after a heartbeat's answer when its probe was lost", () => {
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

describe("the leader's fast backtracking (end of Raft section 5.3)", () => {
  /** Where n1, whose log has these terms, probes next when n2 has refused its first message. */
  function nextAfter(terms: readonly number[], conflict: RefusalSetup) {
    const { raft, requests } = elected(["n2", "n3"], { terms });
    raft.receive(refuse(requests[0]!, conflict));
    return progressOf(raft, "n2")?.next;
  }

  test("resumes at the end of a log that is shorter", () => {
    expect(nextAfter([1, 1, 1, 1], { conflictIndex: 2 })).toBe(2);
  });

  test("skips the range in which this log's terms are above the other's", () => {
    expect(nextAfter([1, 1, 3, 3, 3], { conflictTerm: 2, conflictIndex: 2 })).toBe(3);
  });

  test("skips the other's entries from its first entry of a term that is above this log's", () => {
    expect(nextAfter([1, 1, 1, 1], { conflictTerm: 5, conflictIndex: 3 })).toBe(3);
  });

  test("always moves back, and never asks the same again", () => {
    expect(nextAfter([1, 1, 1], { conflictIndex: 99 })).toBe(3);
    expect(nextAfter([1, 1, 1], { conflictTerm: 1, conflictIndex: 99 })).toBe(3);
  });

  test("never moves below the entries that agree", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const [sent] = toN2(raft);
    raft.receive(refuse(sent!, { conflictIndex: 1 }));
    // An answer to a message about what agrees is one from before.
    expect(progressOf(raft, "n2")).toMatchObject({ state: "replicate", match: 1 });
  });

  test("sends the snapshot when the conflicting term is below all of this log's", () => {
    const setup = { boundary: { index: 4, term: 3 }, terms: [3, 3], commit: 4 };
    const { raft, requests } = elected(["n2", "n3"], setup);
    raft.receive(refuse(requests[0]!, { conflictTerm: 2, conflictIndex: 5 }));
    settle(raft);
    expect(raft.takeSnapshotSends()).toEqual([{ to: "n2", term: 4 }]);
  });

  test("ignores refusals of messages that were sent before the first refusal came", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    const sent = [1, 2, 3].map(() => {
      propose(raft, 1);
      return toN2(raft)[0]!;
    });
    for (const request of sent.slice(1)) raft.receive(refuse(request, { conflictIndex: 2 }));
    expect(toN2(raft)).toHaveLength(1);
  });
});

describe("a member in state replicate", () => {
  test("is sent at most peerAppendsInFlight messages without an answer", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { peerAppendsInFlight: 2 } });
    const sent = [1, 2, 3].flatMap(() => {
      propose(raft, 1);
      return toN2(raft);
    });
    expect(sent.map(({ entries }) => entries[0]?.index)).toEqual([2, 3]);
    raft.receive(accept(sent[0]!));
    expect(toN2(raft)).toMatchObject([{ entries: [{ index: 4 }] }]);
  });

  test("is sent at most peerBytesInFlight bytes, but one message at least", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { peerBytesInFlight: 1 } });
    propose(raft, 1);
    const [first] = toN2(raft);
    propose(raft, 1);
    expect([first?.entries.length, toN2(raft)]).toEqual([1, []]);
  });

  test("is sent at most appendEntries entries in a message", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { appendEntries: 2 } });
    propose(raft, 5);
    expect(toN2(raft).map(({ entries }) => entries.length)).toEqual([2, 2, 1]);
  });

  test("is sent at most appendBatchBytes in a message, but one entry at least", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { appendBatchBytes: 1 } });
    propose(raft, 2);
    expect(toN2(raft).map(({ entries }) => entries.length)).toEqual([1, 1]);
  });

  test("that is held back resumes by a heartbeat's answer when all answers to entries were lost", () => {
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

  test("whose entries were lost is detected by a heartbeat that asks about them", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 2);
    toN2(raft);
    raft.tick();
    const [heartbeat] = toN2(raft);
    raft.receive(refuse(heartbeat!, { conflictIndex: 2 }));
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: [{ index: 2 }, { index: 3 }] }]);
  });

  test("learns of a commit at once when nothing else is in flight to it", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    expect(appendsOf(settle(raft)).map(({ to, leaderCommit, entries }) => [to, leaderCommit, entries.length])).toEqual([
      ["n2", 2, 0],
      ["n3", 2, 0],
    ]);
    expect(appendsOf(settle(raft))).toEqual([]);
  });

  test("learns of a commit with the next entries when there are some", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const sent = appendsOf(settle(raft));
    propose(raft, 1);
    for (const request of sent) raft.receive(accept(request));
    expect(toN2(raft)).toMatchObject([{ leaderCommit: 2, entries: [{ index: 3 }] }]);
  });

  test("is probed from the entries that agree when its connection breaks", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 3);
    toN2(raft);
    raft.unreachable("n2");
    expect(progressOf(raft, "n2")).toMatchObject({ state: "probe", match: 1, next: 2 });
    expect(toN2(raft)).toMatchObject([{ prev: { index: 1 }, entries: [{ index: 2 }, { index: 3 }, { index: 4 }] }]);
  });

  test("does not affect another state or another member by a broken connection", () => {
    const { raft } = elected(["n2", "n3"], { terms: [1, 1] });
    raft.unreachable("n2");
    raft.unreachable("n9");
    expect(toN2(raft)).toEqual([]);
  });

  test("is not believed when it claims more than this leader's log", () => {
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

  test("must be a member: an answer of any other node counts for nothing", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    propose(raft, 1);
    const [sent] = toN2(raft);
    raft.receive({ ...accept(sent!), from: "n9" });
    expect(raft.log.commit).toBe(1);
  });
});

describe("a leader sends", () => {
  test("to all members, learners too, and not to itself", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.changeMembership({ type: "add_learner", id: "n4", address: "" });
    expect(raft.progress.map(({ id, state, next }) => [id, state, next])).toEqual([
      ["n2", "replicate", 2],
      ["n3", "replicate", 2],
      ["n4", "probe", 3],
    ]);
  });

  test("nothing to a node that is no longer a member", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.changeMembership({ type: "remove", id: "n3" });
    expect(raft.progress.map(({ id }) => id)).toEqual(["n2"]);
    expect(appendsOf(settle(raft)).map(({ to }) => to)).toEqual(["n2"]);
  });
});
