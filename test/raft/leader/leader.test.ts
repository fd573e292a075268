import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { isAnswer } from "../../../src/raft/messages.js";
import {
  accept,
  advance,
  append,
  appendsOf,
  ask,
  bytes,
  commands,
  elected,
  install,
  logFacts,
  type NodeSetup,
  refuse,
  requestVote,
  settle,
  startLeader,
  startLeaderOf,
  startNode,
  toN2,
  voters,
} from "../../support/nodes/core.js";

describe("proposals to a leader", () => {
  test("get the next index and the leader's term, and commit when they are durable", () => {
    const raft = startLeader();
    expect(raft.propose(bytes("a"))).toEqual({ accepted: { index: 2, term: 1 } });
    expect(raft.propose(bytes("b"))).toEqual({ accepted: { index: 3, term: 1 } });
    const ready = raft.ready();
    expect(ready.entries.map(({ index, type }) => [index, type])).toEqual([
      [2, "command"],
      [3, "command"],
    ]);
    expect(raft.log.commit).toBe(1);
    advance(raft, ready);
    expect(raft.log.commit).toBe(3);
    expect(settle(raft).committed.map((entry) => entry.data)).toEqual([bytes("a"), bytes("b")]);
  });

  test("are refused by a node that does not lead", () => {
    expect(startNode().propose(bytes("a"))).toEqual({ refused: "not_leader" });
  });

  test("form the next batch while others are being written", () => {
    const raft = startLeader();
    raft.propose(bytes("a"));
    const first = raft.ready();
    raft.propose(bytes("b"));
    raft.propose(bytes("c"));
    advance(raft, first);
    expect(raft.log.commit).toBe(2);
    expect(raft.ready().entries.map((entry) => entry.index)).toEqual([3, 4]);
  });

  test("are refused while uncommittedBytes are waiting, and accepted again when those are committed", () => {
    const raft = startLeader();
    const data = new Uint8Array(limits.entryBytes);
    let accepted = 0;
    while ("accepted" in raft.propose(data)) accepted++;
    expect(accepted).toBe(Math.floor(limits.uncommittedBytes / (limits.entryBytes + 32)));
    const lastIndex = raft.log.last.index;
    expect(raft.propose(data)).toEqual({ refused: "queue_full" });
    expect(raft.log.last.index).toBe(lastIndex);
    const ready = raft.ready();
    expect(raft.propose(data)).toEqual({ refused: "queue_full" });
    advance(raft, ready);
    expect(raft.propose(data)).toEqual({ accepted: { index: lastIndex + 1, term: 1 } });
  });

  test("are accepted at any size when the queue is empty", () => {
    const raft = startLeader();
    const data = new Uint8Array(limits.uncommittedBytes);
    expect(raft.propose(data)).toHaveProperty("accepted");
    expect(raft.propose(bytes("a"))).toEqual({ refused: "queue_full" });
    settle(raft);
    expect(raft.propose(bytes("a"))).toHaveProperty("accepted");
  });

  test("take no room in the queue of a later leadership", () => {
    const raft = startLeader();
    raft.propose(new Uint8Array(limits.uncommittedBytes));
    ask(raft, append({ term: 5 }));
    raft.campaign();
    expect(raft.propose(bytes("a"))).toHaveProperty("accepted");
  });
});

describe("a leader's commit index", () => {
  test("counts only entries of its own term, which commit the earlier ones (Raft section 5.4.2)", () => {
    const raft = startNode({ terms: [1, 1] });
    // Still being written when the node campaigns.
    raft.step(append({ prev: [2, 1], entries: commands(3, [1]) }));
    const inherited = raft.ready();
    raft.campaign();
    advance(raft, inherited);
    expect(raft.log.persisted).toBe(3);
    expect(raft.log.commit).toBe(0);
    const own = raft.ready();
    expect(own.entries.map(({ index, type }) => [index, type])).toEqual([[4, "no-op"]]);
    expect(own.committed).toEqual([]);
    advance(raft, own);
    expect(raft.log.commit).toBe(4);
  });

  test("counts the leader only when its write is durable", () => {
    const raft = startLeader();
    raft.propose(bytes("a"));
    const ready = raft.ready();
    expect(raft.log.commit).toBe(1);
    advance(raft, ready);
    expect(raft.log.commit).toBe(2);
  });
});

describe("reads at a leader (thesis section 6.4)", () => {
  test("wait until an entry of its own term is committed (Raft section 8)", () => {
    const raft = startNode({ terms: [1], commit: 1, applied: 1 });
    raft.campaign();
    raft.readIndex(7);
    expect(raft.isEstablishedLeader).toBe(false);
    expect(raft.takeReads()).toEqual([]);
    advance(raft, raft.ready());
    expect(raft.isEstablishedLeader).toBe(true);
    expect(raft.takeReads()).toEqual([{ requestId: 7, index: 2 }]);
    expect(raft.takeReads()).toEqual([]);
  });

  test("of a single voter are answered at once with the commit index, without a Ready", () => {
    const raft = startLeader();
    raft.propose(bytes("a"));
    raft.readIndex(1);
    raft.readIndex(2);
    expect(raft.takeReads()).toEqual([
      { requestId: 1, index: 1 },
      { requestId: 2, index: 1 },
    ]);
    settle(raft);
    raft.readIndex(3);
    expect(raft.takeReads()).toEqual([{ requestId: 3, index: 2 }]);
  });

  test("are redirected by a node that does not lead", () => {
    const raft = startNode();
    raft.readIndex(1);
    expect(raft.takeReads()).toEqual([{ requestId: 1, index: undefined }]);
  });

  test("are redirected when they wait while the leader is deposed", () => {
    const raft = startNode();
    raft.campaign();
    raft.readIndex(1);
    raft.step(append({ term: 2 }));
    expect(raft.takeReads()).toEqual([{ requestId: 1, index: undefined }]);
  });
});

describe("a leadership", () => {
  test.each([
    ["AppendEntries", append({ term: 2 })],
    ["InstallSnapshot", install([9, 1], { leaderTerm: 2 })],
    ["RequestVote", requestVote(2, [0, 0])],
  ])("ends by %s of a higher term (Raft section 5.1)", (_, message) => {
    const raft = startLeader();
    raft.step(message);
    expect([raft.role, raft.term]).toEqual(["follower", 2]);
    expect(raft.propose(bytes("a"))).toEqual({ refused: "not_leader" });
    expect(raft.isEstablishedLeader).toBe(false);
  });

  test("survives AppendEntries of its own term, which is refused as `safety`, and nothing changes", () => {
    const raft = startLeader();
    raft.propose(bytes("a"));
    settle(raft);
    const before = logFacts(raft);
    const answer = ask(raft, append({ prev: [1, 1], entries: commands(2, [1]), term: 1, commit: 2 }));
    expect(answer).toMatchObject({ rejection: { reason: "safety", detail: "this node itself leads in term 1" } });
    expect(answer.outcome).toBe("rejected");
    expect(logFacts(raft)).toEqual(before);
    expect(raft.role).toBe("leader");
  });

  test("survives InstallSnapshot of its own term, which is refused as `safety`, and nothing changes", () => {
    const raft = startLeader();
    const before = logFacts(raft);
    expect(ask(raft, install([9, 1]))).toMatchObject({ outcome: "safety" });
    expect(logFacts(raft)).toEqual(before);
    expect(raft.role).toBe("leader");
  });

  test("that has ended commits nothing by the entries that were being written", () => {
    const raft = startLeader();
    raft.propose(bytes("a"));
    const ready = raft.ready();
    raft.step(append({ term: 2, prev: [1, 1] }));
    advance(raft, ready);
    expect(raft.log.persisted).toBe(2);
    expect(raft.log.commit).toBe(1);
  });

  test("that has ended has its uncommitted entries replaced by the new leader's", () => {
    const raft = startLeader();
    raft.propose(bytes("mine"));
    const theirs = commands(2, [2, 2]);
    expect(ask(raft, append({ prev: [1, 1], entries: theirs, commit: 3 }))).toMatchObject({ matchIndex: 3 });
    expect(raft.log.last).toEqual({ index: 3, term: 2 });
    expect(raft.log.commit).toBe(3);
  });
});

describe("the leader of several voters", () => {
  const learner = { id: "n4", address: "", role: "learner" } as const;
  const withLearner = [{ index: 0, members: [...voters("n1", "n2", "n3"), learner] }];

  test("commits entries that are durable on a majority of the voters; learners do not count", () => {
    const raft = startLeaderOf(["n2", "n3"], { memberships: withLearner });
    raft.propose(bytes("a"));
    const sent = appendsOf(settle(raft));
    raft.receive(accept(sent.find(({ to }) => to === "n4")!));
    expect(raft.log.commit).toBe(1);
    raft.receive(accept(sent.find(({ to }) => to === "n3")!));
    expect(raft.log.commit).toBe(2);
  });

  test("frees its queue when the others have committed, even when its own disk is slow", () => {
    const raft = startLeaderOf(["n2", "n3"], { limits: { uncommittedBytes: 100 } });
    raft.propose(new Uint8Array(60));
    raft.ready();
    expect(raft.propose(bytes("a"))).toEqual({ refused: "queue_full" });
    for (const request of raft.takeMessages()) {
      if (!isAnswer(request)) raft.receive(accept(request));
    }
    expect([raft.log.commit, raft.log.persisted]).toEqual([2, 1]);
    expect(raft.propose(bytes("a"))).toHaveProperty("accepted");
  });

  test("refuses proposals while it hands over", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.transferLeadership("n2");
    expect(raft.propose(bytes("a"))).toEqual({ refused: "transferring" });
  });

  test("is established when an entry of its own term is committed", () => {
    const { raft, requests } = elected(["n2", "n3"]);
    expect([raft.role, raft.isEstablishedLeader]).toEqual(["leader", false]);
    raft.receive(accept(requests[0]!));
    expect(raft.isEstablishedLeader).toBe(true);
  });

  test("sends nothing in its new term before the term is durable", () => {
    const memberships = [{ index: 0, members: [...voters("n1"), learner] }];
    const raft = startNode({ memberships });
    raft.campaign();
    expect([raft.role, raft.takeMessages()]).toEqual(["leader", []]);
    const ready = raft.ready();
    expect(ready).toMatchObject({
      hardState: { term: 1, vote: "n1" },
      messages: [{ type: "append_entries", to: "n4" }],
    });
  });
});

describe("a learner that is ready for promotion (thesis section 4.2.1)", () => {
  /** n1 leads alone, with the learner n2, which answers these of its messages; marks are set every four ticks, heartbeats sent every three. */
  function afterTicks(ticks: number, answers: (heartbeat: number) => boolean) {
    const members = [...voters("n1"), { id: "n2", address: "", role: "learner" } as const];
    const raft = startNode({ memberships: [{ index: 0, members }], electionTicks: 4, heartbeatTicks: 3 });
    raft.campaign();
    for (let sent = toN2(raft); sent.length > 0; sent = toN2(raft)) for (const each of sent) raft.receive(accept(each));
    let heartbeats = 0;
    for (let tick = 0; tick < ticks; tick++) {
      raft.tick();
      for (const request of toN2(raft)) if (answers(++heartbeats)) raft.receive(accept(request));
    }
    return raft.changeMembership({ type: "promote", id: "n2" });
  }

  test("has answered a message that was sent within the last two election timeouts", () => {
    expect(afterTicks(8, (heartbeat) => heartbeat === 2)).toHaveProperty("accepted");
  });

  test("has not merely answered an older message", () => {
    expect(afterTicks(8, (heartbeat) => heartbeat === 1)).toHaveProperty("impossible");
  });
});

describe("a leader with check-quorum (thesis section 6.2)", () => {
  /** Ticks until the leader steps down, when only these members answer its heartbeats. */
  function ticksInOffice(answering: readonly string[], setup: NodeSetup = {}): number {
    const raft = startLeaderOf(["n2", "n3", "n4", "n5"], { elections: "automatic", electionTicks: 5, ...setup });
    for (let ticks = 1; ticks <= 100; ticks++) {
      raft.tick();
      if (raft.role !== "leader") return ticks;
      for (const request of appendsOf(settle(raft))) {
        if (answering.includes(request.to)) raft.receive(accept(request));
      }
    }
    return Number.POSITIVE_INFINITY;
  }

  test("steps down within two election timeouts when it hears from nobody", () => {
    expect(ticksInOffice([])).toBe(10);
  });

  test("steps down when it hears from a minority, itself included", () => {
    expect(ticksInOffice(["n2"])).toBe(10);
  });

  test("keeps leading when it hears from a majority", () => {
    expect(ticksInOffice(["n2", "n5"])).toBe(Number.POSITIVE_INFINITY);
  });

  test("keeps leading with manual elections whomever it hears from, because nobody would succeed it", () => {
    expect(ticksInOffice([], { elections: "manual" })).toBe(Number.POSITIVE_INFINITY);
  });

  test.each(["automatic", "manual"] as const)(
    "steps down, with %s elections, when a majority is held to follow another leader of its term",
    (elections) => {
      const { raft } = elected(["n2", "n3"], { elections, electionTicks: 3, terms: [1, 1] });
      let ticks = 0;
      while (raft.role === "leader" && ticks < 20) {
        raft.tick();
        ticks += 1;
        for (const request of appendsOf(settle(raft))) raft.receive(refuse(request, { reason: "safety" }));
      }
      expect([raft.role, ticks]).toEqual(["follower", 3]);
    },
  );

  test("keeps leading with manual elections when one of two is held to follow another, and the other follows", () => {
    const { raft } = elected(["n2", "n3"], { elections: "manual", electionTicks: 3, terms: [1, 1] });
    for (let tick = 0; tick < 20; tick++) {
      raft.tick();
      for (const request of appendsOf(settle(raft))) {
        raft.receive(request.to === "n2" ? refuse(request, { reason: "safety" }) : accept(request));
      }
    }
    expect(raft.role).toBe("leader");
  });

  test("counts any answer, even a refusal", () => {
    const { raft, requests } = elected(["n2"], { elections: "automatic", electionTicks: 3, terms: [1, 1] });
    for (let tick = 0; tick < 3; tick++) raft.tick();
    raft.receive(refuse(requests[0]!, { conflictIndex: 1 }));
    for (let tick = 0; tick < 3; tick++) raft.tick();
    expect(raft.role).toBe("leader");
    for (let tick = 0; tick < 3; tick++) raft.tick();
    expect(raft.role).toBe("follower");
  });

  test("becomes an ordinary follower when it steps down, and campaigns when its timer fires", () => {
    const raft = startLeaderOf(["n2"], { elections: "automatic", electionTicks: 5 });
    for (let tick = 0; tick < 10; tick++) raft.tick();
    settle(raft);
    expect([raft.role, raft.leader]).toEqual(["follower", undefined]);
    for (let tick = 0; tick < 4; tick++) raft.tick();
    expect(settle(raft).requests).toEqual([]);
    raft.tick();
    expect(settle(raft).requests).toMatchObject([{ type: "request_vote", preVote: true }]);
  });
});

describe("a leader that is removed (thesis section 4.2.2)", () => {
  test("tells the most caught-up active voter to campaign when it steps down", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.changeMembership({ type: "remove", id: "n1" });
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    expect(raft.role).toBe("follower");
    expect(settle(raft).requests).toContainEqual({ type: "timeout_now", from: "n1", to: "n2", term: 1 });
  });

  test("answers no further reads", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.changeMembership({ type: "remove", id: "n1" });
    const sent = appendsOf(settle(raft));
    raft.readIndex(1);
    for (const request of sent) raft.receive(accept(request));
    expect(raft.takeReads()).toEqual([{ requestId: 1, index: undefined }]);
  });
});
