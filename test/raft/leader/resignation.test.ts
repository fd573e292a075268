import { describe, expect, test } from "vitest";
import { isAnswer } from "../../../src/raft/messages.js";
import type { Raft } from "../../../src/raft/raft.js";
import {
  accept,
  advance,
  appendsOf,
  ask,
  bytes,
  elected,
  requestVote,
  settle,
  startLeader,
  startLeaderOf,
  startNode,
  timeoutNow,
  voters,
} from "../../support/nodes/core.js";

const TICKS = 5;
const THREE = [{ index: 0, members: voters("n1", "n2", "n3") }];
const automatic = { elections: "automatic", electionTicks: TICKS } as const;

/** What leaves without a wait for the disk. */
function sentNow(raft: Raft) {
  return raft.takeMessages().filter((message) => !isAnswer(message));
}

/** n1 leads n1, n2 and n3; it has proposed an entry, and its write of that is under way. */
function writingLeader() {
  const raft = startLeaderOf(["n2", "n3"], automatic);
  raft.propose(bytes("a"));
  const ready = raft.ready();
  const sent = appendsOf({ requests: sentNow(raft) }).filter(({ entries }) => entries.length > 0);
  return { raft, ready, sent };
}

/**
 * Ticks with answers of these members to all that is sent, until n1 leads no more; returns the
 * number of ticks.
 */
function ticksUntilDeposed(raft: Raft, most: number, answering: readonly string[] = ["n2", "n3"]): number {
  for (let tick = 1; tick <= most; tick++) {
    raft.tick();
    const sent = appendsOf({ requests: sentNow(raft) });
    for (const request of sent) if (answering.includes(request.to)) raft.receive(accept(request));
    if (raft.role !== "leader") return tick;
  }
  return Number.POSITIVE_INFINITY;
}

describe("a leader whose disk is stuck (T8)", () => {
  test("hands over to a voter that has the entries that it could not write, while its own write is in progress", () => {
    const { raft, sent } = writingLeader();
    for (const request of sent) raft.receive(accept(request));
    expect([raft.log.commit, raft.log.persisted]).toEqual([2, 1]);
    raft.diskIs("stuck");
    raft.tick();
    const told = sentNow(raft).filter(({ type }) => type === "timeout_now");
    expect(told).toMatchObject([{ to: "n2", term: raft.term }]);
    expect(raft.propose(bytes("b"))).toEqual({ refused: "transferring" });
  });

  test("steps down when nobody has taken over within an election timeout", () => {
    const { raft, sent } = writingLeader();
    for (const request of sent) raft.receive(accept(request));
    raft.diskIs("stuck");
    expect(ticksUntilDeposed(raft, 20)).toBe(TICKS);
    expect([raft.role, raft.leader]).toEqual(["follower", undefined]);
  });

  test("keeps leading while no majority of the others has written the entries that it has not", () => {
    const { raft } = writingLeader();
    raft.diskIs("stuck");
    // n3 is down: n2 alone would not be elected.
    expect(ticksUntilDeposed(raft, 3 * TICKS, ["n2"])).toBe(Number.POSITIVE_INFINITY);
    expect([raft.log.commit, raft.transferTarget]).toEqual([1, undefined]);
    // It is up again: now they can.
    expect(ticksUntilDeposed(raft, 3 * TICKS)).toBeLessThanOrEqual(TICKS + 1);
  });

  test("keeps leading when its write ends before it was deposed", () => {
    const { raft, ready, sent } = writingLeader();
    for (const request of sent) raft.receive(accept(request));
    raft.diskIs("stuck");
    raft.tick();
    advance(raft, ready);
    raft.diskIs("suspect");
    expect(ticksUntilDeposed(raft, 3 * TICKS)).toBe(Number.POSITIVE_INFINITY);
    expect(raft.transferTarget).toBeUndefined();
  });

  test("keeps leading when it is alone", () => {
    const raft = startLeader(automatic);
    raft.propose(bytes("a"));
    raft.ready();
    raft.diskIs("stuck");
    for (let tick = 0; tick < 3 * TICKS; tick++) raft.tick();
    expect(raft.role).toBe("leader");
  });

  test("keeps leading with manual elections, because nobody would campaign in its place", () => {
    const raft = startLeaderOf(["n2", "n3"], { electionTicks: TICKS });
    raft.propose(bytes("a"));
    raft.ready();
    for (const request of appendsOf({ requests: sentNow(raft) })) raft.receive(accept(request));
    raft.diskIs("stuck");
    expect(ticksUntilDeposed(raft, 3 * TICKS)).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("a node whose disk is stuck (T8)", () => {
  const follower = () => startNode({ memberships: THREE, ...automatic });
  const waitLong = (raft: Raft) => {
    for (let tick = 0; tick < 4 * TICKS; tick++) raft.tick();
  };

  test.each(["stuck", "suspect"] as const)("does not campaign, on its timer or when told to: %s", (disk) => {
    const raft = follower();
    raft.diskIs(disk);
    waitLong(raft);
    expect([raft.role, raft.term, settle(raft).requests]).toEqual(["follower", 0, []]);
    raft.step(timeoutNow(1));
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
    // As soon as the disk is well again, it may.
    raft.diskIs("fit");
    waitLong(raft);
    expect(raft.role).not.toBe("follower");
  });

  test("grants no pre-vote until its write has ended, because its vote would not come", () => {
    const raft = follower();
    waitLong(raft);
    raft.diskIs("stuck");
    expect(ask(raft, requestVote(1, [0, 0], { preVote: true }))).toMatchObject({ granted: false });
    raft.diskIs("suspect");
    expect(ask(raft, requestVote(1, [0, 0], { preVote: true }))).toMatchObject({ granted: true });
  });

  test("says why it cannot campaign, and lets an operator insist when it was stuck only a moment ago", () => {
    const raft = follower();
    raft.diskIs("stuck");
    expect(raft.campaign()).toEqual({
      refused: "a write to its log has not ended for longer than an election timeout",
    });
    raft.diskIs("suspect");
    expect(raft.campaign()).toEqual({ allowed: true });
  });
});

describe("a leader that was paused for longer than an election timeout (T8)", () => {
  test("asks at once, and keeps leading when a majority answers that question", () => {
    const raft = startLeaderOf(["n2", "n3"], automatic);
    settle(raft);
    raft.stoodStill();
    expect(appendsOf({ requests: sentNow(raft) }).map(({ to }) => to)).toEqual(["n2", "n3"]);
    expect(ticksUntilDeposed(raft, 3 * TICKS)).toBe(Number.POSITIVE_INFINITY);
  });

  test("steps down within an election timeout when it gets only answers from before its pause", () => {
    const { raft, requests } = elected(["n2", "n3"], automatic);
    for (const request of requests) raft.receive(accept(request));
    const before = appendsOf(settle(raft));
    raft.stoodStill();
    let ticks = 0;
    while (raft.role === "leader" && ticks < 10 * TICKS) {
      raft.tick();
      ticks += 1;
      // What had come meanwhile keeps check-quorum quiet.
      for (const request of before) raft.receive(accept(request));
    }
    expect(ticks).toBeLessThanOrEqual(TICKS);
  });
});

test("entries that are committed and durable are applied while a write is in progress", () => {
  const raft = startLeaderOf(["n2", "n3"], automatic);
  raft.propose(bytes("a"));
  const first = raft.ready();
  const sent = appendsOf({ requests: sentNow(raft) });
  advance(raft, first);
  raft.propose(bytes("b"));
  expect(raft.takeCommitted()).toEqual([]);
  const second = raft.ready();
  expect(second.committed).toEqual([]);
  const later = appendsOf({ requests: sentNow(raft) });
  for (const request of sent) raft.receive(accept(request));
  const committed = raft.takeCommitted();
  expect(committed.map(({ index }) => index)).toEqual([2]);
  expect(raft.takeCommitted()).toEqual([]);
  raft.applied(committed);
  expect(raft.log.applied).toBe(2);
  // The others have written the next one, this node has not: its state must not be ahead of its
  // log.
  for (const request of later) raft.receive(accept(request));
  expect(raft.log.commit).toBe(3);
  expect(raft.takeCommitted()).toEqual([]);
  advance(raft, second);
  expect(settle(raft).committed.map(({ index }) => index)).toEqual([3]);
});
