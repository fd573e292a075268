import { describe, expect, test } from "vitest";
import type { Request } from "../../../src/raft/messages.js";
import {
  accept,
  append,
  appendsOf,
  ask,
  bytes,
  command,
  commands,
  elected,
  progressOf,
  refuse,
  requestVote,
  settle,
  startLeaderOf,
  startNode,
  termsOf,
  vote,
  voters,
} from "../../support/core.js";
import { Cluster, isAppend, isFrom, isTo, isVoteRequest } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
describe("Raft figure 2, state", () => {
  test("currentTerm: 0 at the first start; it never falls, over restarts either", () => {
    const cluster = new Cluster(ids);
    expect(cluster.raft("n2").term).toBe(0);
    cluster.elect("n1");
    cluster.elect("n3");
    expect(cluster.raft("n2").term).toBe(2);
    cluster.act("n2", (raft) => raft.step(append({ from: "n1", term: 1 })));
    expect(cluster.raft("n2").term).toBe(2);
    expect(cluster.restart("n2").term).toBe(2);
  });

  test("votedFor: the candidate that got this node's vote in the present term, and none at its beginning", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    ask(raft, requestVote(1, [0, 0]));
    const voted = settleHardState(raft, requestVote(2, [0, 0], { from: "n3" }));
    expect(voted).toMatchObject({ term: 2, vote: "n3" });
    const moved = settleHardState(raft, append({ term: 3 }));
    expect(moved).toMatchObject({ term: 3, vote: undefined });
  });

  test("log: the first entry has index 1; each holds a command and the term in which its leader received it", () => {
    const raft = startNode();
    raft.campaign();
    raft.propose(bytes("a"));
    expect(settle(raft).entries).toEqual([
      { index: 1, term: 1, type: "no-op", data: new Uint8Array() },
      { index: 2, term: 1, type: "command", data: bytes("a") },
    ]);
  });

  test("persistent state is on stable storage before an RPC is answered: the term and the vote", () => {
    const raft = startNode();
    raft.step(requestVote(3, [0, 0]));
    expect(raft.takeMessages()).toEqual([]);
    expect(raft.ready()).toMatchObject({
      mustSync: true,
      hardState: { term: 3, vote: "n2" },
      messages: [{ to: "n2" }],
    });
  });

  test("persistent state is on stable storage before an RPC is answered: the log", () => {
    const raft = startNode({ term: 1 });
    raft.step(append({ entries: commands(1, [1]) }));
    expect(raft.takeMessages()).toEqual([]);
    expect(raft.ready()).toMatchObject({ mustSync: true, entries: [{ index: 1 }], messages: [{ matchIndex: 1 }] });
  });

  test("commitIndex and lastApplied: 0 at the first start, and they never fall", () => {
    const raft = startNode();
    expect([raft.log.commit, raft.log.applied]).toEqual([0, 0]);
    ask(raft, append({ entries: commands(1, [1, 1]), commit: 2 }));
    ask(raft, append({ prev: [2, 1], commit: 1 }));
    expect([raft.log.commit, raft.log.applied]).toEqual([2, 2]);
  });

  test("nextIndex and matchIndex: set anew after an election, to right behind the leader's last entry, and to 0", () => {
    const cluster = new Cluster(ids, { terms: [1, 1] });
    const first = cluster.elect("n1");
    expect(progressOf(first, "n2")).toMatchObject({ next: 4, match: 3 });
    cluster.elect("n2");
    cluster.act("n1", (raft) => raft.campaign());
    cluster.deliver(isVoteRequest);
    cluster.deliver((flight) => flight.kind === "answer" && flight.message.type === "request_vote_answer");
    expect(cluster.raft("n1").role).toBe("leader");
    const { last } = cluster.raft("n1").log;
    expect(progressOf(cluster.raft("n1"), "n2")).toMatchObject({ next: last.index, match: 0 });
  });

  test("matchIndex: never falls, whatever is answered late", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const first = appendsOf(settle(raft)).find(({ to }) => to === "n2")!;
    raft.propose(bytes("b"));
    const second = appendsOf(settle(raft)).find(({ to }) => to === "n2")!;
    raft.receive(accept(second));
    raft.receive(accept(first));
    expect(progressOf(raft, "n2")?.match).toBe(3);
  });
});

/** The hard state that a request changes a node's to. */
function settleHardState(raft: ReturnType<typeof startNode>, request: Parameters<typeof raft.step>[0]) {
  raft.step(request);
  return settle(raft).readys.findLast((ready) => ready.hardState !== undefined)?.hardState;
}

describe("Raft figure 2, AppendEntries RPC", () => {
  test("leaderId: so that a follower can send clients to the leader", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n3");
    expect(cluster.raft("n1").propose(bytes("a"))).toEqual({ refused: "not_leader" });
    expect(cluster.raft("n1").leader).toBe("n3");
  });

  test("results, term: makes a leader that is deposed without knowing it update itself", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    cluster.partition(["n1"], ["n2", "n3"]);
    cluster.elect("n2");
    cluster.drop();
    cluster.heal();
    cluster.propose("n1", "too late");
    cluster.deliver();
    expect([cluster.raft("n1").role, cluster.raft("n1").term]).toEqual(["follower", 2]);
  });

  test("results, success: said when the log holds the entry at prevLogIndex with prevLogTerm", () => {
    const raft = startNode({ terms: [1, 2] });
    expect(ask(raft, append({ prev: [2, 2] }))).toMatchObject({ matchIndex: 2 });
    expect(ask(raft, append({ prev: [2, 1], term: 2 })).outcome).toBe("rejected");
  });

  test("receiver 1: false when term < currentTerm", () => {
    const raft = startNode({ terms: [1], term: 5 });
    expect(ask(raft, append({ prev: [1, 1], term: 4 }))).toMatchObject({
      term: 5,
      rejection: { reason: "stale_term" },
    });
  });

  test("receiver 2: false when the log has no entry at prevLogIndex whose term is prevLogTerm", () => {
    const raft = startNode({ terms: [1, 1] });
    for (const prev of [[3, 1] as const, [2, 2] as const]) {
      expect(ask(raft, append({ prev, term: 2 }))).toMatchObject({ rejection: { reason: "log_mismatch" } });
    }
  });

  test("receiver 3: an entry that conflicts with a new one is deleted, and all that follow it", () => {
    const raft = startNode({ terms: [1, 1, 1, 1] });
    ask(raft, append({ prev: [1, 1], entries: commands(2, [1, 2]) }));
    expect(termsOf(raft)).toEqual([1, 1, 2]);
  });

  test("receiver 4: new entries that are not yet in the log are appended", () => {
    const raft = startNode({ terms: [1, 1] });
    raft.step(append({ prev: [1, 1], entries: commands(2, [1, 1, 2]) }));
    expect(settle(raft).entries).toEqual(commands(3, [1, 2]));
  });

  test("receiver 5: when leaderCommit > commitIndex, it becomes the lower of leaderCommit and the last new entry", () => {
    const raft = startNode();
    ask(raft, append({ entries: commands(1, [1, 1, 1]), commit: 2 }));
    expect(raft.log.commit).toBe(2);
    ask(raft, append({ prev: [3, 1], entries: commands(4, [1]), commit: 9 }));
    expect(raft.log.commit).toBe(4);
  });
});

describe("Raft figure 2, RequestVote RPC", () => {
  test("results, term: makes a candidate whose term is over update itself", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    raft.campaign();
    const [request] = settle(raft).requests;
    raft.receive(vote(request!, false, 7));
    expect([raft.role, raft.term]).toEqual(["follower", 7]);
  });

  test("receiver 1: false when term < currentTerm", () => {
    expect(ask(startNode({ terms: [3] }), requestVote(2, [9, 2]))).toMatchObject({ granted: false, term: 3 });
  });

  test("receiver 2: granted when votedFor is nobody or the candidate, and its log is at least as up-to-date", () => {
    const raft = startNode({ terms: [1, 2] });
    expect(ask(raft, requestVote(3, [1, 1]))).toMatchObject({ granted: false });
    expect(ask(raft, requestVote(3, [2, 2]))).toMatchObject({ granted: true });
    expect(ask(raft, requestVote(3, [2, 2]))).toMatchObject({ granted: true });
    expect(ask(raft, requestVote(3, [2, 2], { from: "n3" }))).toMatchObject({ granted: false });
  });
});

describe("Raft figure 2, rules for all servers", () => {
  test("when commitIndex > lastApplied, entries are applied, in their order", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n1");
    for (const text of ["a", "b", "c"]) cluster.propose("n1", text);
    cluster.deliver();
    for (const id of ids) {
      expect(cluster.applied(id).map((entry) => entry.index)).toEqual([1, 2, 3, 4]);
      expect(
        cluster
          .applied(id)
          .slice(1)
          .map(({ data }) => data),
      ).toEqual(["a", "b", "c"].map(bytes));
    }
  });

  const higher = [
    ["AppendEntries", append({ term: 4 })],
    ["RequestVote, though it is denied", requestVote(4, [0, 0])],
  ] as const;
  test.each(higher)("a request with a higher term is taken over, and makes a leader a follower: %s", (_, request) => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.step(request);
    expect([raft.role, raft.term]).toEqual(["follower", 4]);
  });

  test("so is the term of an answer, for a leader", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const [request] = appendsOf(settle(raft));
    raft.receive(refuse(request!, { reason: "stale_term", term: 4 }));
    expect([raft.role, raft.term]).toEqual(["follower", 4]);
  });
});

describe("Raft figure 2, rules for followers", () => {
  test("they answer candidates and leaders", () => {
    const raft = startNode();
    expect(ask(raft, requestVote(1, [0, 0])).type).toBe("request_vote_answer");
    expect(ask(raft, append({ term: 1 })).type).toBe("append_entries_answer");
  });

  test("they campaign when an election timeout goes by without AppendEntries of the leader or a vote given", () => {
    const memberships = [{ index: 0, members: voters(...ids) }];
    const ticksUntilCampaign = (request: Request | undefined) => {
      const raft = startNode({ elections: "automatic", terms: [1], memberships });
      for (let tick = 0; tick < 5; tick++) raft.tick();
      if (request !== undefined) raft.step(request);
      let ticks = 5;
      for (; raft.role === "follower"; ticks++) raft.tick();
      return ticks;
    };
    expect(ticksUntilCampaign(undefined)).toBe(10);
    expect(ticksUntilCampaign(append({ term: 1 }))).toBe(15);
    expect(ticksUntilCampaign(requestVote(2, [1, 1]))).toBe(15);
    // Not from the leader, and not granted.
    expect(ticksUntilCampaign(requestVote(2, [0, 0]))).toBe(10);
  });
});

describe("Raft figure 2, rules for candidates", () => {
  test("to start an election: a higher term, the own vote, a new timeout, RequestVote to all others", () => {
    const random = [0, 0.9, 0];
    const setup = { electionTicks: 10, random: () => random.shift()! };
    const raft = startNode({ ...setup, memberships: [{ index: 0, members: voters(...ids) }], terms: [2] });
    raft.campaign();
    const { readys, requests } = settle(raft);
    expect(readys[0]?.hardState).toMatchObject({ term: 3, vote: "n1" });
    expect(requests).toMatchObject([
      { type: "request_vote", to: "n2", term: 3, last: { index: 1, term: 2 }, preVote: false },
      { type: "request_vote", to: "n3", term: 3, last: { index: 1, term: 2 }, preVote: false },
    ]);
    for (let tick = 0; tick < 18; tick++) raft.tick();
    expect(raft.role).toBe("candidate");
    raft.tick();
    expect(raft.role).toBe("follower");
  });

  test("with the votes of a majority, it becomes leader", () => {
    const five = ["n1", "n2", "n3", "n4", "n5"];
    const raft = startNode({ memberships: [{ index: 0, members: voters(...five) }] });
    raft.campaign();
    const [first, second] = settle(raft).requests;
    raft.receive(vote(first!, true));
    expect(raft.role).toBe("candidate");
    raft.receive(vote(second!, true));
    expect([raft.role, raft.leader]).toEqual(["leader", "n1"]);
  });

  test("AppendEntries of the term's leader make it a follower", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    raft.campaign();
    raft.step(append({ term: 1, from: "n3" }));
    expect([raft.role, raft.leader, raft.term]).toEqual(["follower", "n3", 1]);
  });

  test("when its election timeout is over, it starts a new election", () => {
    const cluster = new Cluster(ids, { electionTicks: 10 }, { n1: { elections: "automatic" } });
    cluster.tick(10, ["n1"]);
    cluster.deliver(isTo("n2"));
    cluster.deliver(isFrom("n2"));
    expect([cluster.raft("n1").role, cluster.raft("n1").term]).toEqual(["candidate", 1]);
    cluster.drop();
    cluster.tick(10, ["n1"]);
    cluster.deliver();
    expect([cluster.raft("n1").role, cluster.raft("n1").term]).toEqual(["leader", 2]);
  });
});

describe("Raft figure 2, rules for leaders", () => {
  test("upon election AppendEntries go to each server at once, and again in idle times", () => {
    const { raft, requests } = elected(["n2", "n3"]);
    expect(requests.map(({ to }) => to)).toEqual(["n2", "n3"]);
    for (const request of requests) raft.receive(accept(request));
    settle(raft);
    raft.tick();
    const heartbeats = appendsOf(settle(raft));
    expect(heartbeats.map(({ to, entries }) => [to, entries.length])).toEqual([
      ["n2", 0],
      ["n3", 0],
    ]);
  });

  test("in idle times they keep all others from campaigning", () => {
    const cluster = new Cluster(ids, { elections: "automatic" });
    cluster.elect("n1");
    cluster.pass(100);
    expect([cluster.leaders, cluster.raft("n2").term]).toEqual([["n1"], 1]);
  });

  test("a client's command is appended to the log, and handed out when it is applied", () => {
    const cluster = new Cluster(ids);
    const raft = cluster.elect("n1");
    cluster.propose("n1", "a");
    expect(raft.log.last.index).toBe(2);
    expect(cluster.applied("n1").map(({ index }) => index)).toEqual([1]);
    cluster.deliver();
    expect(cluster.applied("n1").at(-1)).toEqual(command(2, 1, "a"));
  });

  test("when the log reaches to nextIndex, AppendEntries hold the entries from there on", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    for (const text of ["a", "b"]) raft.propose(bytes(text));
    const sent = appendsOf(settle(raft)).filter(({ to }) => to === "n2");
    expect(sent.flatMap(({ entries }) => entries.map(({ index }) => index))).toEqual([2, 3]);
    expect(sent[0]?.prev).toEqual({ index: 1, term: 1 });
  });

  test("on success, the follower's nextIndex and matchIndex move up", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    expect(progressOf(raft, "n2")).toMatchObject({ match: 2, next: 3 });
  });

  test("on an inconsistency, nextIndex moves down, and AppendEntries are sent again", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1, 1] });
    expect(requests[0]).toMatchObject({ to: "n2", prev: { index: 3, term: 1 } });
    raft.receive(refuse(requests[0]!, { conflictIndex: 2 }));
    expect(appendsOf(settle(raft))).toMatchObject([{ to: "n2", prev: { index: 1, term: 1 } }]);
  });

  test("commitIndex becomes what a majority has, when that is an entry of the present term", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1] });
    // The two entries of term 1 alone do not count, on however many servers they are.
    for (const request of requests) raft.receive(accept(request, 2));
    expect(raft.log.commit).toBe(0);
    raft.receive(accept(requests[0]!, 3));
    expect(raft.log.commit).toBe(3);
  });
});

test("Raft figure 2: leaders and candidates send nothing to those that are down but retry", () => {
  const cluster = new Cluster(ids);
  cluster.elect("n1");
  cluster.crash("n3");
  cluster.propose("n1", "a");
  cluster.deliver();
  cluster.restart("n3");
  cluster.pass(2);
  expect(cluster.applied("n3").at(-1)).toEqual(command(2, 1, "a"));
  expect(cluster.flights(isAppend)).toEqual([]);
});
