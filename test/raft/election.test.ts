import { describe, expect, test } from "vitest";
import {
  append,
  ask,
  command,
  commands,
  install,
  requestVote,
  settle,
  startLeader,
  startNode,
  vote,
  voters,
} from "../support/nodes/core.js";

describe("the receiver of RequestVote (Raft figure 2)", () => {
  test("1. replies false if term < currentTerm", () => {
    const raft = startNode({ terms: [1, 5] });
    expect(ask(raft, requestVote(4, [9, 4]))).toMatchObject({ granted: false, term: 5 });
    expect(raft.term).toBe(5);
  });

  test("2. grants the vote if it has granted none and the candidate's log is at least as up-to-date", () => {
    const raft = startNode({ terms: [1, 1] });
    expect(ask(raft, requestVote(2, [2, 1]))).toMatchObject({ to: "n2", granted: true, term: 2 });
  });

  test("2. grants it again to the same candidate, and to no other in that term", () => {
    const raft = startNode({ terms: [1] });
    ask(raft, requestVote(2, [1, 1]));
    expect(ask(raft, requestVote(2, [1, 1]))).toMatchObject({ granted: true });
    expect(ask(raft, requestVote(2, [5, 2], { from: "n3" }))).toMatchObject({ granted: false });
    expect(ask(raft, requestVote(3, [5, 2], { from: "n3" }))).toMatchObject({ granted: true });
  });

  test("remembers its vote over a restart", () => {
    const raft = startNode({ terms: [1], term: 2, vote: "n3" });
    expect(ask(raft, requestVote(2, [1, 1]))).toMatchObject({ granted: false });
    expect(ask(raft, requestVote(2, [1, 1], { from: "n3" }))).toMatchObject({ granted: true });
  });

  test.each([
    ["a later last term", [1, 3], true],
    ["the same last term and a longer log", [4, 2], true],
    ["the same last term and the same length", [3, 2], true],
    ["the same last term and a shorter log", [2, 2], false],
    ["an earlier last term, however long the log", [99, 1], false],
  ] as const)("follows section 5.4.1 for a candidate with %s", (_, last, granted) => {
    const raft = startNode({ terms: [1, 2, 2] });
    expect(ask(raft, requestVote(9, last))).toMatchObject({ granted });
  });

  test("compares a log that is trimmed to nothing by its boundary (section 5.4.1)", () => {
    const raft = startNode({ boundary: { index: 7, term: 3 } });
    expect(ask(raft, requestVote(4, [6, 3]))).toMatchObject({ granted: false });
    expect(ask(raft, requestVote(5, [7, 3]))).toMatchObject({ granted: true });
  });

  test("adopts a higher term, even when it denies the vote (all servers)", () => {
    const raft = startNode({ terms: [2] });
    expect(ask(raft, requestVote(7, [0, 0]))).toMatchObject({ granted: false, term: 7 });
    expect(raft.term).toBe(7);
  });

  test("denies a vote in its own term when it leads, and steps down for a higher term", () => {
    const raft = startLeader();
    expect(ask(raft, requestVote(1, [9, 1]))).toMatchObject({ granted: false, term: 1 });
    expect(raft.role).toBe("leader");
    expect(ask(raft, requestVote(2, [9, 1]))).toMatchObject({ granted: true, term: 2 });
    expect(raft.role).toBe("follower");
    expect(raft.propose(new Uint8Array())).toEqual({ refused: "not_leader" });
  });

  test("answers by a Ready whose hard state holds the vote, and must be durable first", () => {
    const raft = startNode();
    raft.step(requestVote(1, [0, 0]));
    const ready = raft.ready();
    expect(ready.hardState).toEqual({ term: 1, vote: "n2", commit: 0 });
    expect(ready.mustSync).toBe(true);
    expect(ready.messages).toHaveLength(1);
  });
});

describe("a pre-vote (thesis section 9.6)", () => {
  test("says whether the vote would be granted, and changes nothing", () => {
    const raft = startNode({ terms: [1, 1], term: 3, vote: "n9" });
    expect(ask(raft, requestVote(4, [2, 1], { preVote: true }))).toMatchObject({ granted: true, term: 4 });
    expect(ask(raft, requestVote(4, [1, 1], { preVote: true }))).toMatchObject({ granted: false, term: 3 });
    expect(ask(raft, requestVote(3, [2, 1], { preVote: true }))).toMatchObject({ granted: false, term: 3 });
    expect(raft.term).toBe(3);
    expect(raft.ready().hardState).toBeUndefined();
  });

  test("is granted to several candidates", () => {
    const raft = startNode();
    for (const from of ["n2", "n3"]) {
      expect(ask(raft, requestVote(1, [0, 0], { from, preVote: true }))).toMatchObject({ granted: true });
    }
  });
});

describe("with manual elections", () => {
  test("no tick starts a campaign", () => {
    const raft = startNode({ elections: "manual", electionTicks: 2 });
    for (let tick = 0; tick < 1000; tick++) raft.tick();
    expect(raft.role).toBe("follower");
    expect(raft.term).toBe(0);
    expect(raft.hasReady).toBe(false);
  });

  test("a forced campaign of the only voter wins at once: a new term, its own vote, a no-op", () => {
    const raft = startNode({ terms: [3], elections: "manual" });
    expect(raft.campaign()).toEqual({ allowed: true });
    expect([raft.role, raft.term, raft.leader]).toEqual(["leader", 4, "n1"]);
    const ready = raft.ready();
    expect(ready.hardState).toEqual({ term: 4, vote: "n1", commit: 0 });
    expect(ready.entries).toEqual([{ index: 2, term: 4, type: "no-op", data: new Uint8Array() }]);
    expect(ready.mustSync).toBe(true);
  });

  test("a leader that is told to campaign keeps leading", () => {
    const raft = startLeader();
    expect(raft.campaign()).toEqual({ allowed: true });
    expect([raft.role, raft.term]).toEqual(["leader", 1]);
    expect(raft.hasReady).toBe(false);
  });
});

describe("with automatic elections", () => {
  /** Ticks until the node campaigns. */
  function ticksToCampaign(random: number): number {
    const raft = startNode({ elections: "automatic", electionTicks: 10, random: () => random });
    for (let ticks = 1; ticks <= 100; ticks++) {
      raft.tick();
      if (raft.role === "leader") return ticks;
    }
    return Number.NaN;
  }

  test("the timeout is drawn from electionTicks to 2 * electionTicks - 1 (section 5.2)", () => {
    expect(ticksToCampaign(0)).toBe(10);
    expect(ticksToCampaign(0.5)).toBe(15);
    expect(ticksToCampaign(0.999)).toBe(19);
  });

  test("a new timeout is drawn for each election", () => {
    const drawn: number[] = [];
    const random = () => {
      drawn.push(drawn.length === 0 ? 0 : 0.9);
      return drawn.at(-1)!;
    };
    const raft = startNode({ elections: "automatic", electionTicks: 10, random });
    for (let tick = 0; tick < 10; tick++) raft.tick();
    expect(raft.role).toBe("leader");
    settle(raft);
    ask(raft, append({ term: 2 }));
    for (let tick = 0; tick < 18; tick++) raft.tick();
    expect(raft.role).toBe("follower");
    raft.tick();
    expect(raft.role).toBe("leader");
  });

  test("a message of the leader restarts the timeout", () => {
    const raft = startNode({ elections: "automatic", electionTicks: 10 });
    for (let tick = 0; tick < 9; tick++) raft.tick();
    ask(raft, append({ term: 1 }));
    for (let tick = 0; tick < 9; tick++) raft.tick();
    expect(raft.role).toBe("follower");
    raft.tick();
    expect([raft.role, raft.term]).toEqual(["leader", 2]);
  });

  test("granting a vote restarts the timeout", () => {
    const raft = startNode({ elections: "automatic", electionTicks: 10 });
    for (let tick = 0; tick < 9; tick++) raft.tick();
    ask(raft, requestVote(1, [0, 0]));
    raft.tick();
    expect(raft.role).toBe("follower");
  });

  test.each([
    ["a vote that is denied", requestVote(7, [0, 0])],
    ["a pre-vote", requestVote(7, [9, 9], { preVote: true })],
    ["a message of a term that is over", append({ term: 1 })],
  ])("%s does not restart the timeout (figure 2, followers)", (_, message) => {
    const raft = startNode({ terms: [2], elections: "automatic", electionTicks: 10 });
    for (let tick = 0; tick < 9; tick++) raft.tick();
    ask(raft, message as ReturnType<typeof append>);
    expect(raft.role).toBe("follower");
    raft.tick();
    expect(raft.role).toBe("leader");
  });
});

describe("no campaign is started", () => {
  test("by a node with an unapplied snapshot, on its timer or when told to (R13)", () => {
    const raft = startNode({ elections: "automatic", electionTicks: 2 });
    raft.step(install([5, 1]));
    for (let tick = 0; tick < 100; tick++) raft.tick();
    expect(raft.role).toBe("follower");
    expect(raft.campaign()).toEqual({ refused: expect.stringContaining("the snapshot up to 5 is not installed yet") });
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
    settle(raft);
    expect(raft.campaign()).toEqual({ allowed: true });
    expect([raft.role, raft.term]).toEqual(["leader", 2]);
  });

  test("by a node that is not a voter", () => {
    const learner = [{ id: "n1", address: "", role: "learner" } as const, ...voters("n2")];
    const raft = startNode({ memberships: [{ index: 0, members: learner }], elections: "automatic" });
    for (let tick = 0; tick < 100; tick++) raft.tick();
    expect(raft.campaign()).toEqual({ refused: expect.stringContaining("n1 is not a voter") });
    expect([raft.role, raft.term]).toEqual(["follower", 0]);
  });
});

test("the no-op of a new leader commits the entries that it inherited (section 5.4.2)", () => {
  const raft = startNode({ terms: [1, 1] });
  raft.campaign();
  expect(settle(raft).committed).toEqual([
    ...commands(1, [1, 1]),
    { ...command(3, 2), type: "no-op", data: new Uint8Array() },
  ]);
});

describe("the election timer of a node that has campaigned", () => {
  const memberships = [{ index: 0, members: voters("n1", "n2", "n3") }];

  /** Ticks until the node asks for votes again. */
  function ticksToCampaign(raft: ReturnType<typeof startNode>): number {
    settle(raft);
    for (let ticks = 1; ticks <= 100; ticks++) {
      raft.tick();
      if (settle(raft).requests.some(({ type }) => type === "request_vote")) return ticks;
    }
    return Number.NaN;
  }

  test("continues when its candidacy is ended by a candidate that does not get its vote (figure 2)", () => {
    const raft = startNode({ terms: [1, 1], memberships, elections: "automatic" });
    raft.campaign();
    for (let tick = 0; tick < 6; tick++) raft.tick();
    expect(ask(raft, requestVote(9, [1, 1], { leadershipTransfer: true }))).toMatchObject({ granted: false, term: 9 });
    expect(raft.role).toBe("follower");
    expect(ticksToCampaign(raft)).toBe(4);
  });

  test("restarts after it has led, however long its election took", () => {
    const raft = startNode({ memberships, elections: "automatic" });
    raft.campaign();
    const { requests } = settle(raft);
    for (let tick = 0; tick < 6; tick++) raft.tick();
    raft.receive(vote(requests[0]!, true));
    expect(raft.role).toBe("leader");
    ask(raft, requestVote(9, [0, 0], { leadershipTransfer: true }));
    expect(raft.role).toBe("follower");
    expect(ticksToCampaign(raft)).toBe(10);
  });
});
