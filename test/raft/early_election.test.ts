import { describe, expect, test } from "vitest";
import type { Raft } from "../../src/raft/raft.js";
import { append, ask, type NodeSetup, requestVote, settle, startNode, vote, voters } from "../support/nodes/core.js";

const THREE = [{ index: 0, members: voters("n1", "n2", "n3") }];

/** A node of three that has just started. */
function started(setup: NodeSetup = {}): Raft {
  return startNode({ terms: [1, 1], memberships: THREE, elections: "automatic", ...setup });
}

/** Makes the node ask early, and returns the requests that it sends. */
function askEarly(raft: Raft) {
  raft.campaignEarly();
  return settle(raft).requests;
}

describe("a node that asks for votes before its election timeout", () => {
  test("asks all voters for pre-votes, and raises no term", () => {
    const raft = started();
    expect(askEarly(raft)).toMatchObject([
      { type: "request_vote", to: "n2", term: 2, preVote: true, last: { index: 2, term: 1 } },
      { type: "request_vote", to: "n3", term: 2, preVote: true },
    ]);
    expect([raft.role, raft.term]).toEqual(["pre-candidate", 1]);
  });

  test("campaigns as soon as all voters have granted it", () => {
    const raft = started();
    const [n2, n3] = askEarly(raft);
    raft.receive(vote(n2!, true));
    expect(raft.role).toBe("pre-candidate");
    raft.receive(vote(n3!, true));
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
  });

  test("gives a silent voter until the next call, and then campaigns with a majority", () => {
    const raft = started();
    const [n2] = askEarly(raft);
    raft.receive(vote(n2!, true));
    expect([raft.role, raft.term]).toEqual(["pre-candidate", 1]);
    expect(askEarly(raft)).toMatchObject([{ term: 2, preVote: false }, { term: 2 }]);
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
  });

  test("gives up at one denial, because that voter may hear a leader, and asks again at the next call", () => {
    const raft = started();
    const [n2, n3] = askEarly(raft);
    raft.receive(vote(n2!, true));
    raft.receive(vote(n3!, false, 1));
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
    expect(askEarly(raft)).toMatchObject([{ term: 2, preVote: true }, { preVote: true }]);
  });

  test("leaves it to a leader, or to its election timer, to say that it has lost data (T3)", () => {
    const raft = started();
    const [, n3] = askEarly(raft);
    raft.receive({ ...vote(n3!, false, 1), acknowledged: 3 });
    expect([raft.role, raft.lost]).toEqual(["follower", undefined]);
    for (let tick = 0; tick < 30 && raft.role === "follower"; tick++) raft.tick();
    const [n2] = settle(raft).requests;
    raft.receive({ ...vote(n2!, false, 1), acknowledged: 3 });
    expect([raft.role, raft.lost]).toEqual(["follower", { acknowledged: 3, has: 2 }]);
  });

  test("asks again at the next call while no majority has answered", () => {
    const raft = started();
    askEarly(raft);
    expect(askEarly(raft)).toMatchObject([{ term: 2, preVote: true }, { preVote: true }]);
  });

  test("sits one call out after it has granted a pre-vote", () => {
    const raft = started();
    expect(ask(raft, requestVote(2, [2, 1], { from: "n2", preVote: true }))).toMatchObject({ granted: true });
    expect(askEarly(raft)).toEqual([]);
    expect(askEarly(raft)).toHaveLength(2);
  });

  test.each([
    ["n2 to n1, whose key is lower", "n2", "n1", "follower"],
    ["n2 not to n3, whose key is higher", "n2", "n3", "pre-candidate"],
  ])("gives way to a rival: %s", (_, id, rival, role) => {
    const raft = started({ id });
    askEarly(raft);
    expect(ask(raft, requestVote(2, [2, 1], { from: rival, preVote: true }))).toMatchObject({ granted: true });
    expect([raft.role, raft.term]).toEqual([role, 1]);
  });

  test("leaves its election timer as it is", () => {
    const raft = started({ electionTicks: 10 });
    for (let tick = 0; tick < 9; tick++) raft.tick();
    const [, n3] = askEarly(raft);
    raft.receive(vote(n3!, false, 1));
    raft.tick();
    expect(settle(raft).requests).toMatchObject([{ preVote: true }, { preVote: true }]);
    expect(raft.role).toBe("pre-candidate");
  });

  test("leaves a candidacy alone that its timer began", () => {
    const raft = started({ electionTicks: 2 });
    raft.tick();
    raft.tick();
    const [n2] = settle(raft).requests;
    expect(askEarly(raft)).toEqual([]);
    raft.receive(vote(n2!, true));
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
    expect(settle(raft).requests).toMatchObject([{ preVote: false }, { preVote: false }]);
    expect(askEarly(raft)).toEqual([]);
  });
});

describe("no votes are asked for early", () => {
  test.each([
    ["by a node that has heard from a leader", () => heard()],
    ["with manual elections", () => started({ elections: "manual" })],
    ["by a node that is no voter", () => started({ memberships: [{ index: 0, members: voters("n2", "n3") }] })],
  ])("%s", (_, make) => {
    const raft = make();
    expect(askEarly(raft)).toEqual([]);
    expect(raft.role).toBe("follower");
  });

  test("with leases, until every promise from before the start has run out", () => {
    const raft = started({ reads: "lease", electionTicks: 10 });
    for (let tick = 0; tick < 10; tick++) {
      expect(askEarly(raft)).toEqual([]);
      expect(ask(raft, requestVote(2, [9, 9], { from: "n2", preVote: true }))).toMatchObject({ granted: false });
      if (tick < 9) raft.tick();
    }
    expect(raft.role).toBe("follower");
  });

  test("with leases, they are asked for afterwards", () => {
    const raft = started({ reads: "lease", electionTicks: 10, random: () => 0.9 });
    for (let tick = 0; tick < 10; tick++) raft.tick();
    expect(raft.role).toBe("follower");
    expect(askEarly(raft)).toHaveLength(2);
  });
});

test("a live leader and its follower deny an early pre-vote", () => {
  const follower = started();
  ask(follower, append({ from: "n2", term: 1, prev: [2, 1] }));
  expect(ask(follower, requestVote(2, [9, 9], { from: "n3", preVote: true }))).toMatchObject({ granted: false });
});

function heard(): Raft {
  const raft = started();
  ask(raft, append({ from: "n2", term: 1, prev: [2, 1] }));
  return raft;
}
