import { describe, expect, test } from "vitest";
import { changedMembership, type MembershipChange } from "../../../src/raft/membership/membership_change.js";
import type { PeerAppend, PeerAppendAnswer } from "../../../src/raft/messages.js";
import type { Raft } from "../../../src/raft/raft.js";
import type { Member, Membership } from "../../../src/raft/types.js";
import {
  accept,
  append,
  appendsOf,
  ask,
  commands,
  configuration,
  install,
  progressOf,
  propose,
  requestVote,
  settle,
  startLeaderOf,
  startNode,
  termsOf,
  vote,
} from "../../support/nodes/core.js";

// The rules of trust as the core has them. Member keys: a name, and the first letters of an incarnation.

const inc = (letter: string) => letter.repeat(32);
const voter = (id: string, letter = "a"): Member => ({ id, address: "", role: "voter", incarnation: inc(letter) });
const key = (id: string, letter = "a") => `${id}/${inc(letter)}`;
const members: Membership = [voter("n1"), voter("n2"), voter("n3")];
const none = { index: 0, members: [] };

/** n1 with a new directory, which knows no membership. */
function newNode(id = key("n1")): Raft {
  return startNode({ id, memberships: [none], elections: "automatic" });
}

function ticks(raft: Raft, count: number): void {
  for (let at = 0; at < count; at++) raft.tick();
}

describe("a directory without a membership (T1)", () => {
  test("never campaigns, however much time passes and whoever asks", () => {
    const raft = newNode();
    ticks(raft, 100);
    expect([raft.role, raft.term]).toEqual(["follower", 0]);
    expect(raft.campaign()).toEqual({ refused: "node n1 does not know any members yet" });
    expect(settle(raft).requests).toEqual([]);
  });

  test("votes and acknowledges all the same, because it may be a voter that has not heard of it", () => {
    const raft = newNode();
    expect(ask(raft, requestVote(2, [1, 1], { from: key("n2") })).granted).toBe(true);
    const entries = [configuration(1, 1, members), ...commands(2, [2])];
    expect(ask(raft, append({ from: key("n2"), term: 2, entries }))).toMatchObject({ matchIndex: 2 });
    expect(raft.membership.members).toEqual(members);
  });

  test("does not campaign when its name is a voter's and its incarnation is not", () => {
    const raft = startNode({ id: key("n1", "b"), memberships: [{ index: 1, members }], terms: [1], commit: 1 });
    expect(raft.campaign()).toEqual({ refused: "node n1 is not a voter of this cluster" });
  });
});

describe("a vote for an incarnation (T1)", () => {
  test("is not granted again to another directory under the candidate's name in the same term", () => {
    const raft = startNode({ id: key("n1"), memberships: [{ index: 0, members }] });
    expect(ask(raft, requestVote(1, [0, 0], { from: key("n2") })).granted).toBe(true);
    expect(ask(raft, requestVote(1, [0, 0], { from: key("n2", "b") })).granted).toBe(false);
    expect(ask(raft, requestVote(1, [0, 0], { from: key("n2") })).granted).toBe(true);
  });

  test("counts for the directory that granted it, not for its name", () => {
    const raft = startNode({ id: key("n1"), memberships: [{ index: 0, members }] });
    raft.campaign();
    const [toN2] = settle(raft).requests;
    raft.receive({ ...vote(toN2!, true), from: key("n2", "b") });
    expect(raft.role).toBe("candidate");
    raft.receive(vote(toN2!, true));
    expect(raft.role).toBe("leader");
  });
});

describe("founding a cluster (T1)", () => {
  test("writes an entry with the members and the founder's own vote, and asks the others for theirs", () => {
    const raft = newNode();
    raft.found(members);
    const { entries, requests } = settle(raft);
    expect(entries.map(({ index, type }) => [index, type])).toEqual([[1, "configuration"]]);
    expect(raft.membership).toEqual({ index: 1, members });
    expect(requests.map(({ to, type }) => [to, type])).toEqual([
      [key("n2"), "request_vote"],
      [key("n3"), "request_vote"],
    ]);
    raft.receive(vote(requests[0]!, true));
    expect(raft.role).toBe("leader");
  });

  test("starts from the base that the cluster is given", () => {
    const raft = startNode({
      id: key("n1"),
      boundary: { index: 7, term: 3 },
      memberships: [none],
      applied: 7,
      commit: 7,
    });
    raft.found([voter("n1")]);
    settle(raft);
    expect(raft.membership.index).toBe(8);
    expect(termsOf(raft).every((term) => term! > 3)).toBe(true);
    expect(raft.role).toBe("leader");
  });

  test("happens once, and never without the founder as a member", () => {
    const raft = newNode();
    raft.found(members);
    expect(() => raft.found(members)).toThrow("a cluster is founded where there is none");
    expect(() => newNode().found(members.slice(1))).toThrow("a founder votes");
  });
});

describe("the join of a directory (T1)", () => {
  const join = (change: Partial<MembershipChange & { type: "join" }> = {}) =>
    ({ type: "join", id: "n2", incarnation: inc("b"), address: "new:1", cameBy: "cluster", ...change }) as const;
  const result = (change: MembershipChange, { from = members, answers = false } = {}) =>
    changedMembership(from, change, { isCaughtUp: () => true, answers: () => answers });
  const learner = { id: "n2", address: "new:1", role: "learner", incarnation: inc("b") } as const;

  test("under the name of another directory replaces the old one in one entry, and the new one wants its vote (T4)", () => {
    expect(result(join())).toEqual({ members: [voter("n1"), { ...learner, wantsVote: true }, voter("n3")] });
  });

  test("keeps the wish to vote over a second loss, and gives it to no directory that had none (T4)", () => {
    const twice = [voter("n1"), { ...learner, incarnation: inc("c"), wantsVote: true }];
    expect(result(join(), { from: twice })).toEqual({ members: [voter("n1"), { ...learner, wantsVote: true }] });
    const plain = [voter("n1"), { ...learner, incarnation: inc("c") }];
    expect(result(join(), { from: plain })).toEqual({ members: [voter("n1"), learner] });
  });

  test("is refused while the directory that has the name answers, and asks about exactly that directory", () => {
    expect(result(join(), { answers: true })).toMatchObject({
      impossible: expect.stringContaining("another node runs"),
    });
    const asked: string[] = [];
    changedMembership(members, join(), { isCaughtUp: () => true, answers: (each) => asked.push(each) < 0 });
    expect(asked).toEqual([key("n2")]);
  });

  test("that is a member changes nothing but its address", () => {
    expect(result(join({ incarnation: inc("a"), address: "" }))).toEqual({ unchanged: true });
    const moved = { members: [voter("n1"), { ...voter("n2"), address: "new:1" }, voter("n3")] };
    expect(result(join({ incarnation: inc("a") }), { answers: true })).toEqual(moved);
  });

  test("of an unknown name adds a learner that was told to join, and none by the founders' list", () => {
    const added = { members: [...members, { ...learner, id: "n9" }] };
    expect(result(join({ id: "n9", cameBy: "join" }))).toEqual(added);
    expect(result(join({ id: "n9" }))).toMatchObject({ isFinal: true, impossible: expect.stringContaining("--join") });
  });

  test("never removes the last voter", () => {
    expect(result(join(), { from: [voter("n2")] })).toEqual({ impossible: "n2 is the last voter" });
  });

  test("gives it progress of its own, without the lost directory's acknowledgements", () => {
    const raft = leader();
    silence(raft);
    raft.changeMembership(join());
    settle(raft);
    expect(raft.progress.find((each) => each.key === key("n2", "b"))).toMatchObject({ match: 0, state: "probe" });
    expect(raft.progress.some((each) => each.key === key("n2"))).toBe(false);
  });
});

/** n1 leads n1, n2 and n3, all of which have the same log. */
function leader(): Raft {
  return startLeaderOf(["n2", "n3"], {
    id: key("n1"),
    memberships: [{ index: 0, members }],
    elections: "automatic",
  });
}

/** n2 does not answer for two election timeouts; n3 does. */
function silence(raft: Raft): void {
  for (let at = 0; at < 25; at++) {
    raft.tick();
    for (const request of appendsOf(settle(raft))) if (request.to === key("n3")) raft.receive(accept(request));
  }
}

function requestTo(raft: Raft, name: string): PeerAppend {
  raft.tick();
  return appendsOf(settle(raft)).find(({ to }) => to.startsWith(`${name}/`))!;
}

/** What a member answers whose log ends at `last`. */
function tooShort(request: PeerAppend, last: number): PeerAppendAnswer {
  const { round, acknowledged, prev, term } = request;
  const conflict = { conflictTerm: undefined, conflictIndex: last + 1 };
  const rejection = { reason: "log_mismatch", detail: "", ...conflict } as const;
  const answer = { type: "append_entries_answer", outcome: "rejected", rejection, lastIndex: last } as const;
  const asked = { term, round, prevIndex: prev.index, acknowledged };
  return { ...answer, from: request.to, term, request: asked };
}

test("the leader sends nothing to a joining directory before its entry is committed, and all of the log afterwards (T1)", () => {
  const raft = leader();
  const join = { type: "join", id: "n4", incarnation: inc("d"), address: "n4:1", cameBy: "join" } as const;
  expect(raft.changeMembership(join)).toMatchObject({ accepted: {} });
  const index = raft.log.last.index;
  const toN4 = (requests: readonly PeerAppend[]) => requests.filter(({ to }) => to === key("n4", "d"));
  const sent = appendsOf(settle(raft));
  ticks(raft, 3);
  expect(toN4([...sent, ...appendsOf(settle(raft))])).toEqual([]);
  for (const request of sent) raft.receive(accept(request));
  expect(raft.log.commit).toBe(index);
  expect(toN4(appendsOf(settle(raft)))).not.toEqual([]);
});

describe("the leader of a member that lost data (T3)", () => {
  test("proves the loss by an answer with less than was acknowledged at the question, and stops counting the member", () => {
    const raft = leader();
    propose(raft, 2);
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    settle(raft);
    const { commit } = raft.log;
    const request = requestTo(raft, "n2");
    expect(request.acknowledged).toBe(commit);
    raft.receive(tooShort(request, commit - 1));
    expect(progressOf(raft, "n2")).toMatchObject({ state: "lost", lost: { acknowledged: commit, has: commit - 1 } });
    // Of the other two one does not suffice without it.
    propose(raft, 1);
    settle(raft);
    expect(raft.log.commit).toBe(commit);
    raft.receive(accept(requestTo(raft, "n3"), commit + 1));
    settle(raft);
    expect(raft.log.commit).toBe(commit + 1);
  });

  test("takes no answer for a loss that is older than the acknowledgement", () => {
    const raft = leader();
    const [first, second] = [1, 1].map((count) => {
      propose(raft, count);
      return appendsOf(settle(raft)).find(({ to }) => to === key("n2"))!;
    });
    expect([second!.prev.index, second!.acknowledged]).toEqual([2, 1]);
    // The second overtook the first on its way to n2, and its answer comes last.
    const late = tooShort(second!, 1);
    raft.receive(accept(first!));
    settle(raft);
    raft.receive(late);
    expect(progressOf(raft, "n2")).toMatchObject({ match: 2 });
    expect(progressOf(raft, "n2")!.state).not.toBe("lost");
  });

  test("keeps telling it so, and sends it nothing else", () => {
    const raft = leader();
    raft.receive(tooShort(requestTo(raft, "n2"), 0));
    propose(raft, 3);
    const sent = [requestTo(raft, "n2"), requestTo(raft, "n2")];
    expect(sent.map(({ entries, acknowledged }) => [entries.length, acknowledged])).toEqual([
      [0, 1],
      [0, 1],
    ]);
  });

  test("lets a new directory take its place even though it still answers", () => {
    const raft = leader();
    const join = { type: "join", id: "n2", incarnation: inc("b"), address: "", cameBy: "cluster" } as const;
    expect(raft.changeMembership(join)).toMatchObject({ impossible: expect.stringContaining("another node runs") });
    raft.receive(tooShort(requestTo(raft, "n2"), 0));
    expect(raft.changeMembership(join)).toMatchObject({ accepted: {} });
  });
});

describe("a member that lost data (T3)", () => {
  /** n1 follows n2 with a log of three entries, and is told that it acknowledged five. */
  function lost(): Raft {
    const raft = startNode({ id: key("n1"), terms: [1, 1, 1], memberships: [{ index: 0, members }] });
    const message = { ...append({ from: key("n2"), term: 2, prev: [5, 1] }), acknowledged: 5 };
    expect(ask(raft, message)).toMatchObject({ rejection: { reason: "lost" } });
    expect(raft.lost).toEqual({ acknowledged: 5, has: 3 });
    return raft;
  }

  test("accepts nothing more, not even entries that would fill the gap", () => {
    const raft = lost();
    const entries = commands(4, [1, 1]);
    const answer = ask(raft, append({ from: key("n2"), term: 2, prev: [3, 1], entries }));
    expect(answer).toMatchObject({ rejection: { reason: "lost" }, lastIndex: 3 });
    expect(answer.outcome).toBe("rejected");
    expect(raft.log.last.index).toBe(3);
    const snapshot = install([9, 2], { from: key("n2"), leaderTerm: 2 });
    expect(ask(raft, snapshot).outcome).toBe("safety");
  });

  test("neither votes nor campaigns, because its vote may be forgotten, too", () => {
    const raft = lost();
    expect(ask(raft, requestVote(9, [9, 9], { from: key("n3") })).granted).toBe(false);
    expect(ask(raft, requestVote(9, [9, 9], { from: key("n3"), preVote: true })).granted).toBe(false);
    expect(raft.campaign()).toEqual({ refused: "node n1 has lost data that it acknowledged, up to 5" });
  });

  test("is told so by a former leader when it campaigns, and is not elected by voters that lag behind", () => {
    const witness = leader();
    propose(witness, 2);
    for (const request of appendsOf(settle(witness))) witness.receive(accept(request));
    witness.receive(accept(requestTo(witness, "n2"), witness.log.last.index));
    const { commit } = witness.log;
    // n2's directory was put back from a copy, which ends before that.
    const candidate = startNode({
      id: key("n2"),
      terms: [1],
      memberships: [{ index: 0, members }],
      elections: "automatic",
    });
    expect(candidate.log.last.index).toBeLessThan(commit);
    while (candidate.role === "follower") candidate.tick();
    const { requests } = settle(candidate);
    const [toWitness, toOther] = ["n1", "n3"].map((name) => requests.find(({ to }) => to === key(name)));
    const answer = ask(witness, requestVote(2, [1, 1], { from: key("n2"), preVote: true }));
    expect(answer).toMatchObject({ granted: false, acknowledged: commit });
    candidate.receive({ ...vote(toWitness!, false, 1), acknowledged: answer.acknowledged });
    expect([candidate.role, candidate.lost]).toEqual(["follower", { acknowledged: commit, has: 1 }]);
    // The vote of one that lags behind comes too late.
    candidate.receive(vote(toOther!, true));
    expect(candidate.role).toBe("follower");
    expect(candidate.campaign()).toEqual({ refused: expect.stringContaining("has lost data that it acknowledged") });
  });

  test("is not one that has all it acknowledged and lacks entries that it never had", () => {
    const raft = startNode({ id: key("n1"), terms: [1, 1, 1], memberships: [{ index: 0, members }] });
    const message = { ...append({ from: key("n2"), term: 2, prev: [5, 1] }), acknowledged: 3 };
    expect(ask(raft, message)).toMatchObject({ rejection: { reason: "log_mismatch" } });
    expect(raft.lost).toBeUndefined();
  });
});

describe("the leader that promotes (T4)", () => {
  const waiting: Member = { id: "n2", address: "", role: "learner", incarnation: inc("b"), wantsVote: true };

  function withLearner(learner: Member): Raft {
    const memberships = [{ index: 0, members: [voter("n1"), learner, voter("n3")] }];
    const setup = { id: key("n1"), memberships, elections: "automatic" } as const;
    return startLeaderOf(["n2", "n3"], setup);
  }

  /** Time passes in which these members answer. */
  function pass(raft: Raft, count: number, ...names: string[]): void {
    for (let at = 0; at < count; at++) {
      raft.tick();
      for (const request of appendsOf(settle(raft))) {
        if (names.some((name) => request.to.startsWith(`${name}/`))) raft.receive(accept(request));
      }
      settle(raft);
    }
  }

  test("makes a learner a voter when it wants that and has caught up, and removes the wish", () => {
    const raft = withLearner(waiting);
    pass(raft, 30, "n2", "n3");
    const { wantsVote: _, ...rest } = waiting;
    expect(raft.membership.members[1]).toEqual({ ...rest, role: "voter" });
    expect(raft.log.commit).toBe(raft.membership.index);
  });

  test("does not promote a learner that does not want it, does not answer or lags behind", () => {
    const { wantsVote: _, ...plain } = waiting;
    const content = withLearner(plain);
    pass(content, 30, "n2", "n3");
    expect(content.membership.index).toBe(0);
    const silent = startNode({
      id: key("n1"),
      memberships: [{ index: 0, members: [voter("n1"), waiting, voter("n3")] }],
      elections: "automatic",
    });
    silent.campaign();
    for (const request of settle(silent).requests) silent.receive(vote(request, true));
    pass(silent, 60, "n3");
    expect(silent.role).toBe("leader");
    expect(silent.membership.index).toBe(0);
  });
});
