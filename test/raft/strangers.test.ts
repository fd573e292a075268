import { describe, expect, test } from "vitest";
import { memberKey } from "../../src/base/ids.js";
import { limits } from "../../src/base/limits.js";
import type { Request } from "../../src/raft/messages.js";
import type { Raft } from "../../src/raft/raft.js";
import type { Membership } from "../../src/raft/types.js";
import {
  append,
  ask,
  command,
  configuration,
  elected,
  install,
  logFacts,
  type NodeSetup,
  requestVote,
  settle,
  startNode,
  timeoutNow,
  vote,
  voters,
} from "../support/nodes/core.js";

// T10: requests are those of voters. Each test is an attack, or a case in which a refusal would shut a member out.

const LATEST = 3;
const history = [
  { index: 1, members: voters("n1", "n2", "n3", "old") },
  { index: LATEST, members: [...voters("n1", "n2", "n3"), { id: "x1", address: "", role: "learner" } as const] },
];

/** n1 in term 1, which knows the members n1, n2, n3 and the learner x1; "old" was removed before. */
function member(setup: NodeSetup = {}): Raft {
  return startNode({
    elections: "automatic",
    listensTo: undefined,
    memberships: history,
    terms: [1, 1, 1, 1],
    commit: 4,
    applied: 4,
    ...setup,
  });
}

/** The same, which hears from its leader n2. */
function led(): Raft {
  const raft = member();
  expect(ask(raft, append({ term: 1, prev: [4, 1] })).outcome).toBe("accepted");
  return raft;
}

/** Lets a node hear from no leader for so long that it must reckon with voters that it does not know. */
function forsake(raft: Raft, ticks = 10 * limits.strangerTimeouts): Raft {
  for (let tick = 0; tick < ticks; tick++) raft.tick();
  settle(raft);
  return raft;
}

function attacks(from: string, term: number, membershipIndex: number): [string, Request][] {
  const sender = { from, membershipIndex };
  return [
    ["a vote", requestVote(term, [9, 1], sender)],
    ["a vote that a leader seems to ask for", requestVote(term, [9, 1], { ...sender, leadershipTransfer: true })],
    ["a pre-vote", requestVote(term, [9, 1], { ...sender, preVote: true })],
    ["a heartbeat", append({ ...sender, term, prev: [4, 1], commit: 4 })],
    ["entries", append({ ...sender, term, prev: [4, 1], entries: [command(5, 1, "forged")], commit: 5 })],
    ["a claim that data is lost", append({ ...sender, term, acknowledged: 1_000 })],
    ["a snapshot", install([9, 1], { ...sender, leaderTerm: term })],
    ["a hand-over", timeoutNow(term, from)],
  ];
}

/** Gives the node a request, which it must refuse without any effect. */
function expectRefusal(raft: Raft, request: Request, detail: string): void {
  const { term, role, leader, lost, strangers } = raft;
  const before = { term, role, leader, lost, ...logFacts(raft) };
  expect(raft.step({ ...request, address: "192.0.2.7:99" })).toBe(false);
  const { messages, requests, entries } = settle(raft);
  const answer = messages.find(({ requestId }) => requestId === request.requestId);
  expect(answer).toMatchObject({ to: request.from, term: before.term });
  if (answer?.type === "request_vote_answer") expect(answer.granted).toBe(false);
  if (answer?.type === "append_entries_answer") expect(answer).toMatchObject({ rejection: { reason: "not_member" } });
  if (answer?.type === "install_snapshot_answer") expect(answer.outcome).toBe("safety");
  expect([requests, entries]).toEqual([[], []]);
  expect({ term: raft.term, role: raft.role, leader: raft.leader, lost: raft.lost, ...logFacts(raft) }).toEqual(before);
  expect(raft.strangers).toEqual({
    count: strangers.count + 1,
    latest: { from: request.from, address: "192.0.2.7:99", detail: expect.stringContaining(detail) },
  });
  expect(raft.violations.count).toBe(0);
}

describe("a sender that is no voter (T10)", () => {
  const senders: [string, string, number, string][] = [
    ["a stranger", "mallory", 0, "mallory is not a member in the membership of index 3"],
    ["a member that was removed", "old", 1, "old is not a member"],
    ["a member of the present membership's time that was removed by it", "old", LATEST, "old is not a member"],
    ["a learner", "x1", LATEST, "x1 is not a voter"],
    ["another directory of a voter's name", `n2/${"a".repeat(32)}`, LATEST, "n2 is another directory"],
  ];
  const terms = [1, 2, 1 + limits.termJump, limits.termMax];

  test.each(senders)("is refused whatever it sends: %s", (_, from, membershipIndex, detail) => {
    for (const make of [member, led]) {
      for (const term of terms) {
        for (const [, request] of attacks(from, term, membershipIndex)) expectRefusal(make(), request, detail);
      }
    }
  });

  test("is refused by a leader, and by a candidate", () => {
    const { raft: leader } = elected(["n2", "n3"], { elections: "automatic", listensTo: undefined });
    for (const [, request] of attacks("mallory", leader.term + 1, 0)) expectRefusal(leader, request, "mallory is not");
    for (const [, request] of attacks("mallory", leader.term + 1, 9)) expectRefusal(leader, request, "mallory is not");
    const candidate = member();
    for (let tick = 0; tick < 10; tick++) candidate.tick();
    for (const request of settle(candidate).requests) candidate.receive(vote(request, true));
    settle(candidate);
    expect(candidate.role).toBe("candidate");
    for (const [, request] of attacks("mallory", candidate.term + 1, 0)) {
      expectRefusal(candidate, request, "mallory is not");
    }
  });

  test("is not listened to while a leader is heard, whatever membership it says that it knows", () => {
    for (const [, request] of attacks("mallory", 2, 1_000)) expectRefusal(led(), request, "mallory is not a member");
    const raft = led();
    const [, heartbeat] = attacks("mallory", 2, 1_000)[3]!;
    expectRefusal(raft, heartbeat, "it names a later membership, of index 1000, but this node has heard from a leader");
  });

  test("hands no leadership over, even when no leader is heard", () => {
    expectRefusal(member(), timeoutNow(1, "mallory"), "mallory is not a member");
    expectRefusal(member(), { ...timeoutNow(1, "mallory"), membershipIndex: 1_000 }, "mallory is not a member");
  });

  test("cannot make a working cluster hold an election, however long it tries", () => {
    const raft = led();
    for (let tick = 0; tick < 100; tick++) {
      raft.tick();
      if (tick % 3 === 0) ask(raft, append({ term: 1, prev: [4, 1] }));
      for (const [, request] of attacks("mallory", raft.term + 1, 1_000 + tick)) raft.step(request);
      settle(raft);
    }
    expect([raft.term, raft.role, raft.leader]).toEqual([1, "follower", "n2"]);
    expect(raft.strangers.count).toBe(800);
  });

  test("is not counted, and changes no term, by an answer that nobody asked it for", () => {
    const raft = member();
    for (let tick = 0; tick < 10; tick++) raft.tick();
    settle(raft);
    expect(raft.role).toBe("pre-candidate");
    const request = { term: raft.term + 1, preVote: true };
    for (const from of ["mallory", "old", `n2/${"a".repeat(32)}`]) {
      raft.receive({ type: "request_vote_answer", from, term: 2, granted: true, acknowledged: 1_000, request });
      raft.receive({ type: "request_vote_answer", from, term: 900, granted: false, request });
      raft.receive({ type: "timeout_now_answer", from, term: 900 });
    }
    // A learner answers appends. Its vote does not count.
    raft.receive({ type: "request_vote_answer", from: "x1", term: 2, granted: true, request });
    expect([raft.role, raft.term, raft.lost]).toEqual(["pre-candidate", 1, undefined]);
    expect(raft.strangers.count).toBe(9);
  });

  test("neither commits nor confirms anything by its answers to a leader", () => {
    const { raft } = elected(["n2", "n3"], { elections: "automatic", listensTo: undefined });
    const { commit } = raft.log;
    const answered = { lastIndex: 9, request: { term: raft.term, round: 1, prevIndex: 0 } };
    for (const from of ["mallory", "eve"]) {
      const answer = { type: "append_entries_answer", from, term: raft.term, ...answered } as const;
      raft.receive({ ...answer, outcome: "accepted", matchIndex: raft.log.last.index });
    }
    expect(raft.log.commit).toBe(commit);
    expect(raft.strangers.count).toBe(2);
  });
});

describe("nobody that may be needed is shut out (T10)", () => {
  test("a directory without a membership listens to everyone", () => {
    const raft = startNode({ elections: "automatic", listensTo: undefined, memberships: [{ index: 0, members: [] }] });
    expect(ask(raft, requestVote(1, [1, 1], { from: "n7", membershipIndex: 0 })).granted).toBe(true);
    const entries = [configuration(1, 1, voters("n1", "n7"))];
    expect(ask(raft, append({ from: "n7", entries, membershipIndex: 0 })).outcome).toBe("accepted");
    expectRefusal(raft, append({ from: "mallory", term: 2, membershipIndex: 0 }), "mallory is not a member");
  });

  test.each(["n4", "x1"])(
    "a node that is behind listens to a voter that it does not know yet (%s), after a silence",
    (from) => {
      const raft = led();
      const later = append({ from, term: 2, prev: [4, 1], membershipIndex: 9 });
      expectRefusal(raft, later, "but this node has heard from a leader");
      forsake(raft, 10 * limits.strangerTimeouts - 1);
      expectRefusal(raft, { ...later, requestId: 70 }, "but this node has heard from a leader");
      raft.tick();
      expect(ask(raft, { ...later, requestId: 71 }).outcome).toBe("accepted");
      expect([raft.term, raft.leader]).toEqual([2, from]);
      // It believes no membership by that.
      expect(raft.membership.index).toBe(LATEST);
    },
  );

  test("a node that is behind votes for a voter that it does not know yet, and installs its snapshot", () => {
    const raft = forsake(member());
    expect(ask(raft, requestVote(2, [9, 1], { from: "n4", membershipIndex: 9 })).granted).toBe(true);
    const members = voters("n1", "n2", "n4");
    const membership = { index: 9, members };
    expect(ask(raft, install([9, 1], { from: "n4", leaderTerm: 2, membershipIndex: 9, membership })).outcome).toBe(
      "installed",
    );
    expect(raft.membership).toEqual(membership);
    expectRefusal(raft, append({ from: "n3", term: 3, membershipIndex: LATEST }), "n3 is not a member");
  });

  test("a voter whose removal may be uncommitted still leads and is elected", () => {
    const raft = member({ terms: [1, 1, 1, 1] });
    const removal = configuration(
      5,
      1,
      history[1]!.members.filter(({ id }) => id !== "n3"),
    );
    expect(ask(raft, append({ term: 1, prev: [4, 1], entries: [removal], commit: 4 })).outcome).toBe("accepted");
    for (let tick = 0; tick < 10; tick++) raft.tick();
    expect(ask(raft, requestVote(3, [5, 1], { from: "n3", membershipIndex: 5 })).granted).toBe(true);
    expect(ask(raft, append({ from: "n3", term: 3, prev: [5, 1], membershipIndex: 5 })).outcome).toBe("accepted");
    // It learns of the commit from the leader that the entry removes, and follows it to the end of its term.
    const commit = append({
      from: "n3",
      term: 3,
      prev: [5, 1],
      entries: [command(6, 3)],
      commit: 6,
      membershipIndex: 5,
    });
    expect(ask(raft, commit).outcome).toBe("accepted");
    expect(ask(raft, append({ from: "n3", term: 3, prev: [6, 3], commit: 6, membershipIndex: 5 })).outcome).toBe(
      "accepted",
    );
    expectRefusal(raft, append({ from: "n3", term: 4, prev: [6, 3], membershipIndex: 5 }), "n3 is not a member");
  });

  test("a member's successor leads once it votes, and not before", () => {
    const successor = { id: "n2", address: "", role: "learner", incarnation: "b".repeat(32), wantsVote: true } as const;
    const replaced: Membership = [...history[1]!.members.filter(({ id }) => id !== "n2"), successor].sort((a, b) =>
      a.id < b.id ? -1 : 1,
    );
    const raft = member();
    const entries = [configuration(5, 1, replaced)];
    expect(ask(raft, append({ from: "n3", term: 1, prev: [4, 1], entries, commit: 5 })).outcome).toBe("accepted");
    const from = memberKey(successor);
    const request = { from, term: 2, prev: [5, 1], membershipIndex: 5 } as const;
    expectRefusal(raft, append(request), "n2 is not a voter");
    expectRefusal(raft, append({ ...request, from: "n2" }), "n2 is another directory");
    const promoted = replaced.map((each) => (each === successor ? { ...each, role: "voter" as const } : each));
    const promotion = append({ from: "n3", term: 1, prev: [5, 1], entries: [configuration(6, 1, promoted)] });
    expect(ask(raft, promotion).outcome).toBe("accepted");
    expect(ask(raft, append({ ...request, prev: [6, 1], membershipIndex: 6 })).outcome).toBe("accepted");
  });

  test("a node that was removed and added again follows the leader that did it", () => {
    const raft = member({ id: "old", memberships: [history[0]!] });
    raft.removed(LATEST);
    forsake(raft);
    const entries = [command(5, 4)];
    expect(ask(raft, append({ from: "n9", term: 4, prev: [4, 1], entries, membershipIndex: 9 })).outcome).toBe(
      "accepted",
    );
    expect(raft.removedAt).toBeUndefined();
  });

  test("with manual elections the embedder decides who leads", () => {
    const raft = member({ elections: "manual" });
    expect(ask(raft, append({ from: "gateway", term: 9, prev: [4, 1], membershipIndex: 0 })).outcome).toBe("accepted");
    const strict = member({ elections: "manual", listensTo: "voters" });
    expectRefusal(strict, append({ from: "gateway", term: 9, prev: [4, 1], membershipIndex: 0 }), "gateway is not");
  });
});
