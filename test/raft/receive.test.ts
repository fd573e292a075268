import { describe, expect, test } from "vitest";
import {
  accept,
  append,
  appendsOf,
  bytes,
  elected,
  progressOf,
  refuse,
  settle,
  startLeaderOf,
  startNode,
  timeoutNow,
  vote,
  voters,
} from "../support/nodes/core.js";

const memberships = [{ index: 0, members: voters("n1", "n2", "n3") }];

/** n1 in its first candidacy, with what it asks. */
function candidate() {
  const raft = startNode({ memberships });
  raft.campaign();
  return { raft, requests: settle(raft).requests };
}

describe("an answer with a higher term (Raft section 5.1)", () => {
  test("makes a candidate a follower in it", () => {
    const { raft, requests } = candidate();
    raft.receive(vote(requests[0]!, false, 9));
    expect([raft.role, raft.term, raft.leader]).toEqual(["follower", 9, undefined]);
  });

  test("makes a leader a follower in it, which drops its leader's state", () => {
    const { raft, requests } = elected(["n2", "n3"]);
    raft.receive(refuse(requests[0]!, { reason: "stale_term", term: 9 }));
    expect([raft.role, raft.term, raft.progress, raft.transferTarget]).toEqual(["follower", 9, [], undefined]);
  });

  test("counts even when it is the answer to TimeoutNow", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.transferLeadership("n2");
    raft.receive({ type: "timeout_now_answer", from: "n2", term: 2 });
    expect([raft.role, raft.term]).toEqual(["follower", 2]);
  });

  test("does not count when it grants a pre-vote, whose term is the requested one", () => {
    const raft = startNode({ memberships, elections: "automatic" });
    for (let tick = 0; tick < 10; tick++) raft.tick();
    const [request] = settle(raft).requests;
    raft.receive(vote(request!, true));
    expect([raft.role, raft.term]).toEqual(["candidate", 1]);
  });
});

describe("an answer that comes too late", () => {
  test("to AppendEntries of an earlier term of the same leader counts for nothing", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const [early] = appendsOf(settle(raft));
    raft.step(append({ term: 2 }));
    settle(raft);
    raft.campaign();
    for (const request of settle(raft).requests) raft.receive(vote(request, true));
    expect([raft.role, raft.term]).toEqual(["leader", 3]);
    raft.receive({ ...accept(early!), term: 3 });
    expect(progressOf(raft, "n2")?.match).toBe(0);
  });

  test("to AppendEntries does not disturb a node that no longer leads", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const [early] = appendsOf(settle(raft));
    raft.step(append({ term: 2, prev: [1, 1] }));
    raft.receive(accept(early!));
    expect([raft.role, raft.log.commit]).toEqual(["follower", 1]);
  });

  test("to RequestVote changes no leader", () => {
    const { raft, requests } = candidate();
    raft.receive(vote(requests[0]!, true));
    raft.receive(vote(requests[1]!, false, 1));
    expect([raft.role, raft.term]).toEqual(["leader", 1]);
  });

  test("to TimeoutNow changes nothing", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.receive({ type: "timeout_now_answer", from: "n2", term: 1 });
    expect(raft.role).toBe("leader");
  });
});

describe("an election", () => {
  test("is lost when a majority denies its vote, and the candidate waits for its next timeout as a follower", () => {
    const { raft, requests } = candidate();
    raft.receive(vote(requests[0]!, false, 1));
    expect(raft.role).toBe("candidate");
    raft.receive(vote(requests[1]!, false, 1));
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
  });

  test("that a node was told to start ends with its timeout when elections are manual, and is not retried", () => {
    const { raft } = candidate();
    for (let tick = 0; tick < 9; tick++) raft.tick();
    expect(raft.role).toBe("candidate");
    raft.tick();
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
    expect(settle(raft).requests).toEqual([]);
  });

  test("may be started again by a candidate", () => {
    const { raft } = candidate();
    expect(raft.campaign()).toEqual({ allowed: true });
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
  });

  test("that a node was told to start passes voters that hear from a leader, unless leases stand on them", () => {
    const isForced = (setup: Parameters<typeof startNode>[0]) => {
      const raft = startNode({ memberships, elections: "automatic", random: () => 0.9, ...setup });
      for (let tick = 0; tick < 10; tick++) raft.tick();
      raft.campaign();
      return settle(raft).requests.map((request) => request.type === "request_vote" && request.leadershipTransfer);
    };
    expect(isForced({})).toEqual([true, true]);
    expect(isForced({ reads: "lease" })).toEqual([false, false]);
  });

  test("starts without a pre-vote when the leader tells a pre-candidate to campaign", () => {
    const raft = startNode({ memberships, elections: "automatic", term: 1 });
    for (let tick = 0; tick < 10; tick++) raft.tick();
    expect(raft.role).toBe("pre-candidate");
    raft.step(timeoutNow(1));
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
  });
});

describe("an event that concerns a leader changes nothing at a follower", () => {
  test.each([
    ["a broken connection", (raft: ReturnType<typeof startNode>) => raft.unreachable("n2")],
    ["a clock that stood still", (raft: ReturnType<typeof startNode>) => raft.distrustClock()],
    [
      "the end of a snapshot's transfer",
      (raft: ReturnType<typeof startNode>) => raft.snapshotSent({ to: "n2", term: 1 }, { kind: "failed" }),
    ],
    [
      "entries read from disk",
      (raft: ReturnType<typeof startNode>) =>
        raft.entriesRead({ to: "n2", term: 1, first: 1, last: 1, maxBytes: 1 }, []),
    ],
  ])("such as %s", (_, event) => {
    const raft = startNode({ memberships, terms: [1] });
    event(raft);
    expect([raft.role, raft.hasReady, raft.takeMessages()]).toEqual(["follower", false, []]);
    expect([raft.takeLogReads(), raft.takeSnapshotSends()]).toEqual([[], []]);
  });

  test("such as a change of the membership, which is refused", () => {
    expect(startNode({ memberships }).changeMembership({ type: "remove", id: "n2" })).toEqual({
      refused: "not_leader",
    });
  });
});
