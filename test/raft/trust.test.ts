import { describe, expect, test } from "vitest";
import { counterProblem, exhaustion } from "../../src/base/counters.js";
import { limits } from "../../src/base/limits.js";
import { changeProblem, membersProblem, snapshotProblem } from "../../src/raft/membership/membership_rules.js";
import { type PeerAppend, wellFormed } from "../../src/raft/messages.js";
import type { Member, Membership } from "../../src/raft/types.js";
import {
  accept,
  append,
  appendsOf,
  ask,
  command,
  configuration,
  elected,
  install,
  logFacts,
  type NodeSetup,
  refuse,
  requestVote,
  settle,
  startLeader,
  startNode,
  timeoutNow,
  voters,
} from "../support/nodes/core.js";

const { termMax, indexMax, termJump, termStep, indexJump } = limits;
const BEYOND = [termMax + 1, Number.MAX_SAFE_INTEGER, 2 ** 60];
const memberships = [{ index: 0, members: voters("n1", "n2", "n3") }];

function follower(setup: NodeSetup = {}) {
  return startNode({ elections: "automatic", memberships, terms: [1], ...setup });
}

function member(id: string, rest: Partial<Member> = {}): Member {
  return { id, address: "", role: "voter", ...rest };
}

describe("a counter from outside (T6)", () => {
  test("is accepted up to its bound, and no further", () => {
    for (const limit of ["termMax", "indexMax", "countMax", "sequenceMax"] as const) {
      expect(counterProblem(limits[limit], limit)).toBeUndefined();
      expect(counterProblem(BigInt(limits[limit]), limit)).toBeUndefined();
      expect(counterProblem(limits[limit] + 1, limit)).toContain(`expected 0 to ${limits[limit]} (${limit})`);
      expect(counterProblem(2n ** 63n, limit, 1)).toContain(`9223372036854775808, expected 1 to`);
    }
    expect(limits.termMax).toBe(281474976710656);
    for (const value of [-1, 0.5, Number.NaN, -1n]) expect(counterProblem(value, "indexMax")).toContain("expected 0");
    expect(counterProblem(0, "indexMax", 1)).toContain("expected 1");
  });

  test.each(BEYOND)("is refused when it is %d as the term of a request", (term) => {
    expect(wellFormed(requestVote(term, [1, 1]))).toEqual({ refused: expect.stringContaining("termMax") });
    expect(wellFormed(requestVote(1, [1, term]))).toEqual({ refused: expect.stringContaining("termMax") });
    expect(wellFormed(timeoutNow(term))).toEqual({ refused: expect.stringContaining("termMax") });
    expect(wellFormed(install([1, 1], { leaderTerm: term }))).toEqual({ refused: expect.stringContaining("termMax") });
    expect(wellFormed(append({ term }))).toEqual({ refused: expect.stringContaining("termMax") });
    expect(wellFormed(append({ prev: [1, term], term: 1 }))).toEqual({ refused: expect.stringContaining("termMax") });
  });

  test.each(BEYOND)("is refused when it is %d as the index of a request", (index) => {
    expect(wellFormed(requestVote(1, [index, 1]))).toEqual({ refused: expect.stringContaining("indexMax") });
    expect(wellFormed(append({ prev: [index, 1], term: 1 }))).toEqual({ refused: expect.stringContaining("indexMax") });
    expect(wellFormed(append({ term: 1, commit: index }))).toEqual({ refused: expect.stringContaining("indexMax") });
    expect(snapshotProblem(install([index, 1]).snapshot)).toContain("indexMax");
  });

  test("is refused beyond its bound as a member's acknowledged index", () => {
    expect(wellFormed({ ...append({ term: 1 }), acknowledged: indexMax + 1 })).toEqual({
      refused: expect.stringContaining("acknowledged_index is"),
    });
  });

  test("admits no entry behind the last index", () => {
    const message = append({ prev: [indexMax, 1], entries: [command(indexMax + 1, 1)] });
    expect(wellFormed(message)).toEqual({ refused: expect.stringContaining("indexMax") });
    expect(() => startNode().step(message)).toThrow("AppendEntries is well-formed");
  });

  test("that has reached the last term keeps the node from campaigning, which says why", () => {
    const raft = startNode({ terms: [1], term: termMax });
    expect(raft.campaign()).toEqual({ refused: expect.stringContaining("is the highest possible (termMax)") });
    expect([raft.role, raft.term]).toEqual(["follower", termMax]);
    expect(exhaustion(termMax - 1, indexMax - 1)).toBeUndefined();
  });

  test("that has reached the last term keeps the timer and a hand-over from starting a campaign", () => {
    const raft = follower({ term: termMax });
    for (let tick = 0; tick < 100; tick++) raft.tick();
    expect(settle(raft).requests).toEqual([]);
    raft.step(timeoutNow(termMax));
    expect([raft.role, raft.term]).toEqual(["follower", termMax]);
  });

  test("that has reached the last index keeps a node from campaigning, and a leader from accepting more", () => {
    expect(startNode({ boundary: { index: indexMax, term: 1 } }).campaign()).toEqual({
      refused: expect.stringContaining("(indexMax)"),
    });
    const leader = startLeader({ boundary: { index: indexMax - 1, term: 1 } });
    expect(leader.log.last.index).toBe(indexMax);
    expect(leader.propose(new Uint8Array(1))).toEqual({ refused: "log_exhausted" });
    const change = { type: "add_learner", id: "n2", address: "" } as const;
    expect(leader.changeMembership(change)).toEqual({ impossible: expect.stringContaining("(indexMax)") });
  });

  describe("far above a node's own term", () => {
    const far = termMax;

    test.each([
      ["a vote for a hand-over", requestVote(far, [9, far], { leadershipTransfer: true })],
      ["a vote", requestVote(far, [9, far])],
      ["entries", append({ term: far, prev: [1, 1] })],
      ["a snapshot", install([9, 1], { leaderTerm: far })],
      ["a hand-over", timeoutNow(far)],
    ])("raises the term one step with %s, which is refused, when no leader is heard", (_, message) => {
      const raft = follower();
      const before = logFacts(raft);
      raft.step(message);
      const [answer] = settle(raft).messages;
      expect(answer).toMatchObject({ term: 1 + termStep });
      expect(raft.term).toBe(1 + termStep);
      expect([raft.role, raft.leader]).toEqual(["follower", undefined]);
      expect(logFacts(raft)).toEqual(before);
      expect(raft.violations).toMatchObject({ count: 1, latest: { from: "n2" } });
      if (answer?.type === "request_vote_answer") expect(answer.granted).toBe(false);
      if (answer?.type === "append_entries_answer") expect(answer).toMatchObject({ rejection: { reason: "safety" } });
      if (answer?.type === "install_snapshot_answer") expect(answer.outcome).toBe("safety");
    });

    test.each([
      ["a vote for a hand-over", requestVote(far, [9, far], { from: "n3", leadershipTransfer: true })],
      ["a vote", requestVote(far, [9, far], { from: "n3" })],
      ["a pre-vote", requestVote(far, [9, far], { from: "n3", preVote: true })],
      ["entries", append({ from: "n3", term: far, prev: [1, 1] })],
      ["a snapshot", install([9, 1], { from: "n3", leaderTerm: far })],
      ["a hand-over", timeoutNow(far, "n3")],
    ])("changes nothing with %s while a leader is heard, and is reported", (_, message) => {
      const raft = follower();
      ask(raft, append({ term: 1, prev: [1, 1] }));
      const before = logFacts(raft);
      raft.step({ ...message, address: "192.0.2.7:99" });
      const [answer] = settle(raft).messages;
      expect(answer).toMatchObject({ term: 1 });
      expect([raft.term, raft.leader, logFacts(raft)]).toEqual([1, "n2", before]);
      const detail = expect.stringContaining("this node hears from a leader, and stays in its term");
      expect(raft.violations).toEqual({ count: 1, latest: { from: "n3", address: "192.0.2.7:99", detail } });
    });

    test("is reached after as many requests as there are steps between, so that no node is shut out", () => {
      const raft = follower();
      const leader = 1 + termJump + 3 * termStep;
      const answers = Array.from({ length: 4 }, () => ask(raft, append({ term: leader, prev: [1, 1] })));
      const refused = { rejection: { reason: "safety" } };
      expect(answers).toMatchObject([refused, refused, refused, { outcome: "accepted" }]);
      expect([raft.term, raft.leader]).toEqual([leader, "n2"]);
    });

    test("does not depose a leader that others follow, when it comes by an answer; one that they do not follow gives up", () => {
      const { raft } = elected(["n2", "n3"], { elections: "automatic" });
      const { term } = raft;
      const wild = (request: PeerAppend) => raft.receive({ ...refuse(request, { reason: "stale_term" }), term: far });
      for (let tick = 0; tick < 30; tick++) {
        raft.tick();
        for (const request of appendsOf(settle(raft))) {
          if (request.to === "n2") wild(request);
          else raft.receive(accept(request));
        }
      }
      expect([raft.role, raft.term]).toEqual(["leader", term]);
      expect(raft.violations.count).toBeGreaterThan(1);
      expect(raft.progress.find(({ id }) => id === "n2")?.isActive).toBe(false);
      for (let tick = 0; tick < 30; tick++) {
        raft.tick();
        for (const request of appendsOf(settle(raft))) wild(request);
      }
      expect(raft.role).not.toBe("leader");
    });

    test("of an answer that refuses a leader confirms no read of it", () => {
      const { raft, requests } = elected(["n2", "n3"], { elections: "automatic", reads: "quorum" });
      for (const request of requests) raft.receive(accept(request));
      raft.takeReads();
      raft.readIndex(7);
      for (const request of appendsOf(settle(raft))) {
        raft.receive({ ...refuse(request, { reason: "safety" }), term: request.term - 1 });
        raft.receive(refuse(request, { reason: "not_member" }));
      }
      expect(raft.takeReads()).toEqual([]);
      raft.tick();
      for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
      expect(raft.takeReads()).toEqual([{ requestId: 7, index: raft.log.commit }]);
    });

    test("raises nothing when it comes by a candidate that is not listened to, or by a pre-vote", () => {
      const raft = follower();
      ask(raft, append({ term: 1, prev: [1, 1] }));
      expect(ask(raft, requestVote(far, [9, far], { from: "n3" })).granted).toBe(false);
      for (let tick = 0; tick < 10; tick++) raft.tick();
      expect(ask(raft, requestVote(far, [9, far], { from: "n3", preVote: true })).granted).toBe(true);
      expect(raft.term).toBe(1);
    });

    test("raises the term one step at a time when it comes by an answer and no leader is heard", () => {
      const raft = follower();
      for (let tick = 0; tick < 10; tick++) raft.tick();
      const request = { term: 2, preVote: true };
      raft.receive({ type: "request_vote_answer", from: "n2", term: far, granted: false, request });
      expect(raft.term).toBe(1 + termStep);
      expect(raft.violations.count).toBe(1);
    });

    test("is adopted at once with manual elections", () => {
      const raft = startNode({ memberships, terms: [1] });
      ask(raft, append({ term: far, prev: [1, 1] }));
      expect([raft.term, raft.leader]).toEqual([far, "n2"]);
    });
  });
});

describe("an index far above the end of a node's log (T6)", () => {
  const far = 2 + indexJump;

  test.each([
    ["a candidate's log", requestVote(2, [far, 1])],
    ["a candidate's log, in a pre-vote", requestVote(2, [far, 1], { preVote: true })],
    ["the entry before others", append({ term: 1, prev: [far, 1] })],
    ["the leader's commit index", append({ term: 1, prev: [1, 1], commit: far })],
    ["what the node has acknowledged, as the leader says", append({ term: 1, prev: [1, 1], acknowledged: far })],
    ["the leader's membership", append({ term: 1, prev: [1, 1], membershipIndex: far })],
    ["a snapshot", install([far, 1])],
  ])("is refused and reported as that of %s, and changes nothing", (_, message) => {
    const raft = follower();
    const before = logFacts(raft);
    raft.step(message);
    const [answer] = settle(raft).messages;
    if (answer?.type === "request_vote_answer") expect(answer.granted).toBe(false);
    if (answer?.type === "append_entries_answer") expect(answer).toMatchObject({ rejection: { reason: "safety" } });
    if (answer?.type === "install_snapshot_answer") expect(answer.outcome).toBe("safety");
    expect([raft.term, raft.leader, raft.lost, logFacts(raft)]).toEqual([1, undefined, undefined, before]);
    const detail = expect.stringContaining(`speaks of index ${far}, more than indexJump`);
    expect(raft.violations).toEqual({ count: 1, latest: { from: "n2", detail } });
  });

  test("makes no candidate believe that it has lost data", () => {
    const raft = follower();
    for (let tick = 0; tick < 10; tick++) raft.tick();
    const request = { term: 2, preVote: true };
    const answer = { type: "request_vote_answer", from: "n2", term: 1, granted: false, request } as const;
    raft.receive({ ...answer, acknowledged: far });
    expect([raft.lost, raft.violations.count]).toEqual([undefined, 1]);
    raft.receive({ ...answer, acknowledged: far - 1 });
    expect(raft.lost).toEqual({ acknowledged: far - 1, has: 1 });
  });

  test("is taken right below that, and wherever a node without a log begins", () => {
    expect(ask(follower(), install([far - 1, 1])).outcome).toBe("installed");
    expect(ask(startNode({ elections: "automatic", memberships }), install([indexMax, 1])).outcome).toBe("installed");
    const unfounded = { memberships: [{ index: 0, members: [] }], boundary: { index: 5, term: 1 } };
    expect(ask(startNode({ elections: "automatic", ...unfounded }), install([indexMax, 1])).outcome).toBe("installed");
  });
});

describe("a message that no correct member sends (T5)", () => {
  const fromItself = "claims to be from this node, n1, itself";

  test("is refused when it comes from the node itself, whatever its term", () => {
    for (const term of [1, 2, termMax]) {
      const raft = follower();
      const before = logFacts(raft);
      expect(ask(raft, append({ from: "n1", term, prev: [1, 1], entries: [command(2, 1)] }))).toMatchObject({
        rejection: {
          reason: "safety",
          detail: expect.stringContaining(fromItself),
        },
      });
      expect(ask(raft, install([9, 1], { from: "n1", leaderTerm: term })).outcome).toBe("safety");
      expect(ask(raft, requestVote(term, [9, 9], { from: "n1", leadershipTransfer: true })).granted).toBe(false);
      raft.step(timeoutNow(term, "n1"));
      expect([raft.role, raft.term]).toEqual(["follower", 1]);
      expect(logFacts(raft)).toEqual(before);
      expect(raft.violations.count).toBe(4);
    }
  });

  test("of a second leader in one term is refused, and the first leader is still followed", () => {
    const raft = follower();
    ask(raft, append({ from: "n2", term: 2, prev: [1, 1], entries: [command(2, 2)] }));
    const before = logFacts(raft);
    const second = append({ from: "n3", term: 2, prev: [1, 1], entries: [command(2, 2, "other"), command(3, 2)] });
    expect(ask(raft, second)).toMatchObject({
      rejection: {
        reason: "safety",
        detail: "n3 acts as leader of term 2, but n2 leads in that term",
      },
    });
    expect(ask(raft, install([9, 2], { from: "n3", leaderTerm: 2 })).outcome).toBe("safety");
    raft.step(timeoutNow(2, "n3"));
    expect([raft.role, raft.term, raft.leader]).toEqual(["follower", 2, "n2"]);
    expect(logFacts(raft)).toEqual(before);
    expect(raft.violations).toEqual({ count: 3, latest: { from: "n3", detail: expect.any(String) } });
    const offer = { type: "install_snapshot", from: "n3", index: 3 } as const;
    expect(raft.faultOf({ ...offer, term: 2 })).toEqual({
      kind: "violation",
      detail: expect.stringContaining("n2 leads"),
    });
    expect(raft.faultOf({ ...offer, term: 3 })).toBeUndefined();
    expect(ask(raft, append({ from: "n3", term: 3, prev: [2, 2] })).outcome).toBe("accepted");
    expect(raft.leader).toBe("n3");
  });

  test("of a second leader is refused even when this node has asked for votes meanwhile", () => {
    const raft = follower();
    ask(raft, append({ from: "n2", term: 2, prev: [1, 1] }));
    for (let tick = 0; tick < 30; tick++) raft.tick();
    expect(raft.role).toBe("pre-candidate");
    expect(ask(raft, append({ from: "n3", term: 2, prev: [1, 1] }))).toMatchObject({ rejection: { reason: "safety" } });
    expect(ask(raft, append({ from: "n2", term: 2, prev: [1, 1] })).outcome).toBe("accepted");
  });

  test("of another leader is refused in the term in which this node led and stepped down", () => {
    const { raft } = elected(["n2", "n3"], { elections: "automatic" });
    const { term } = raft;
    for (let tick = 0; tick < 20; tick++) raft.tick();
    expect(raft.role).not.toBe("leader");
    const answer = ask(raft, append({ term, prev: [1, term] }));
    expect(answer).toMatchObject({ rejection: { detail: `this node itself leads in term ${term}` } });
  });

  test.each<[string, Membership]>([
    ["a stranger alone", voters("stranger")],
    ["two members more", voters("n1", "n2", "n3", "n4", "n5")],
    ["two members less", voters("n1")],
    ["one out and one in", voters("n1", "n2", "n4")],
    ["two roles changed", [member("n1"), member("n2", { role: "learner" }), member("n3", { role: "learner" })]],
    ["no voter", [member("n1", { role: "learner" })]],
    ["nobody", []],
    ["no order", voters("n2", "n1", "n3")],
    ["one twice", voters("n1", "n2", "n3", "n3")],
    ["an id that is none", voters("n1", "n2", "n3", "no such id")],
    ["an incarnation that is none", [...voters("n1", "n2", "n3"), member("n4", { incarnation: "one" })]],
    ["an endless address", [...voters("n1", "n2", "n3"), member("n4", { address: "a".repeat(10_000) })]],
  ])("with entries whose membership has %s is refused as a whole", (_, members) => {
    const raft = follower();
    const before = logFacts(raft);
    const entries = [command(2, 2), configuration(3, 2, members), command(4, 2)];
    const answer = ask(raft, append({ term: 2, prev: [1, 1], entries }));
    expect(answer).toMatchObject({
      rejection: {
        reason: "safety",
        detail: expect.stringContaining("entry 3 is not a legal"),
      },
    });
    expect(logFacts(raft)).toEqual(before);
    expect(raft.violations.count).toBe(1);
  });

  test("has each of its configurations compared with the one before it", () => {
    const legal = [configuration(2, 2, voters("n1", "n2")), configuration(3, 2, voters("n1"))];
    expect(ask(follower(), append({ prev: [1, 1], entries: legal }))).toMatchObject({ matchIndex: 3 });
    const illegal = [configuration(2, 2, voters("n1", "n2")), configuration(3, 2, voters("n1", "n2", "n3", "n4"))];
    expect(ask(follower(), append({ prev: [1, 1], entries: illegal }))).toMatchObject({
      rejection: { reason: "safety" },
    });
  });

  test("has its configurations compared with those before the entries that it replaces", () => {
    const raft = follower();
    ask(raft, append({ prev: [1, 1], entries: [configuration(2, 2, voters("n1", "n2", "n3", "n4"))] }));
    const entries = [command(2, 3), configuration(3, 3, voters("n1", "n2"))];
    expect(ask(raft, append({ from: "n3", prev: [1, 1], entries }))).toMatchObject({ matchIndex: 3 });
    expect(raft.membership).toEqual({ index: 3, members: voters("n1", "n2") });
  });

  test("is judged as a snapshot by its own header before anything is done for it", () => {
    for (const members of [[], voters("n2", "n1"), [member("n1", { role: "learner" })]]) {
      const raft = follower();
      const before = logFacts(raft);
      const answer = ask(raft, install([9, 1], { leaderTerm: 2, membership: { index: 5, members } }));
      expect(answer).toMatchObject({
        outcome: "safety",
        detail: expect.stringContaining("the snapshot says of itself"),
      });
      expect(logFacts(raft)).toEqual(before);
    }
    expect(snapshotProblem(install([9, 1], { membership: { index: 10, members: voters("n1") } }).snapshot)).toContain(
      "membership index 10",
    );
  });
});

describe("the one validator of memberships (T5)", () => {
  test.each<[string, Membership, Membership]>([
    ["one joins", voters("n1"), [member("n1"), member("n2", { role: "learner" })]],
    ["one leaves", voters("n1", "n2"), voters("n2")],
    ["one is promoted", [member("n1"), member("n2", { role: "learner" })], voters("n1", "n2")],
    ["one has moved", voters("n1", "n2"), [member("n1"), member("n2", { address: "h:1" })]],
    [
      "one is another server under the same name",
      [member("n1", { incarnation: "1".repeat(32) }), member("n2", { incarnation: "2".repeat(32) })],
      [
        member("n1", { incarnation: "1".repeat(32) }),
        member("n2", { incarnation: "3".repeat(32), role: "learner", wantsVote: true }),
      ],
    ],
    ["nothing changes", voters("n1", "n2"), voters("n1", "n2")],
    ["nothing is known of what was before", [], voters("n1", "n2", "n3")],
  ])("accepts that %s", (_, before, after) => {
    expect(changeProblem(before, after)).toBeUndefined();
  });

  test("says which members change at once", () => {
    expect(changeProblem(voters("n1", "n2"), voters("n2", "n3"))).toContain("it changes 2 members at once (n3, n1)");
  });

  test("bounds the number of members, and accepts that many", () => {
    const many = Array.from({ length: limits.members + 1 }, (_, at) => member(`n${String(at).padStart(5, "0")}`));
    expect(membersProblem(many)).toContain("the limit members is 1000");
    expect(membersProblem(many.slice(1))).toBeUndefined();
  });

  test("bounds addresses, and accepts the longest", () => {
    const address = "a".repeat(limits.addressCharacters);
    expect(membersProblem([member("n1", { address })])).toBeUndefined();
    expect(membersProblem([member("n1", { address: `${address}a` })])).toContain("limit addressCharacters is 320");
  });

  test("is asked by a leader before it appends a requested change", () => {
    const raft = startLeader();
    const change = { type: "add_learner", id: "n2", address: "a".repeat(1_000) } as const;
    expect(raft.changeMembership(change)).toEqual({ impossible: expect.stringContaining("addressCharacters") });
  });
});
