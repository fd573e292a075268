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
} from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isTo, isVoteRequest } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
describe("Raft figure 2, state", () => {
  test("currentTerm is 0 at the first start, and never falls, even over restarts", () => {
    const cluster = new Cluster(ids);
    expect(cluster.raft("n2").term).toBe(0);
    cluster.elect("n1");
    cluster.elect("n3");
    expect(cluster.raft("n2").term).toBe(2);
    cluster.act("n2", (raft) => raft.step(append({ from: "n1", term: 1 })));
    expect(cluster.raft("n2").term).toBe(2);
    expect(cluster.restart("n2").term).toBe(2);
  });

  test("votedFor is the candidate that got this node's vote in the present term, and none at the term's beginning", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    ask(raft, requestVote(1, [0, 0]));
    const voted = settleHardState(raft, requestVote(2, [0, 0], { from: "n3" }));
    expect(voted).toMatchObject({ term: 2, vote: "n3" });
    const moved = settleHardState(raft, append({ term: 3 }));
    expect(moved).toMatchObject({ term: 3, vote: undefined });
  });

  test("log begins at index 1, and each entry holds a command and the term in which its leader received it", () => {
    const raft = startNode();
    raft.campaign();
    raft.propose(bytes("a"));
    expect(settle(raft).entries).toEqual([
      { index: 1, term: 1, type: "no-op", data: new Uint8Array() },
      { index: 2, term: 1, type: "command", data: bytes("a") },
    ]);
  });

  test("term and vote are on stable storage before an RPC is answered", () => {
    const raft = startNode();
    raft.step(requestVote(3, [0, 0]));
    expect(raft.takeMessages()).toEqual([]);
    expect(raft.ready()).toMatchObject({
      mustSync: true,
      hardState: { term: 3, vote: "n2" },
      messages: [{ to: "n2" }],
    });
  });

  test("log entries are on stable storage before an RPC is answered", () => {
    const raft = startNode({ term: 1 });
    raft.step(append({ entries: commands(1, [1]) }));
    expect(raft.takeMessages()).toEqual([]);
    expect(raft.ready()).toMatchObject({ mustSync: true, entries: [{ index: 1 }], messages: [{ matchIndex: 1 }] });
  });

  test("commitIndex and lastApplied are 0 at the first start, and never fall", () => {
    const raft = startNode();
    expect([raft.log.commit, raft.log.applied]).toEqual([0, 0]);
    ask(raft, append({ entries: commands(1, [1, 1]), commit: 2 }));
    ask(raft, append({ prev: [2, 1], commit: 1 }));
    expect([raft.log.commit, raft.log.applied]).toEqual([2, 2]);
  });

  test("nextIndex and matchIndex are reset after an election, to right behind the leader's last entry, and to 0", () => {
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

  test("matchIndex never falls, however late an answer is", () => {
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
  test("the argument leaderId lets a follower redirect clients to the leader", () => {
    const cluster = new Cluster(ids);
    cluster.elect("n3");
    expect(cluster.raft("n1").propose(bytes("a"))).toEqual({ refused: "not_leader" });
    expect(cluster.raft("n1").leader).toBe("n3");
  });

  test("the result term makes a deposed leader that does not know it update itself", () => {
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

  test("the result success is true when the log holds the entry at prevLogIndex with prevLogTerm", () => {
    const raft = startNode({ terms: [1, 2] });
    expect(ask(raft, append({ prev: [2, 2] }))).toMatchObject({ matchIndex: 2 });
    expect(ask(raft, append({ prev: [2, 1], term: 2 })).outcome).toBe("rejected");
  });

  test("receiver 1 replies false when term < currentTerm", () => {
    const raft = startNode({ terms: [1], term: 5 });
    expect(ask(raft, append({ prev: [1, 1], term: 4 }))).toMatchObject({
      term: 5,
      rejection: { reason: "stale_term" },
    });
  });

  test("receiver 2 replies false when the log has no entry at prevLogIndex whose term is prevLogTerm", () => {
    const raft = startNode({ terms: [1, 1] });
    for (const prev of [[3, 1] as const, [2, 2] as const]) {
      expect(ask(raft, append({ prev, term: 2 }))).toMatchObject({ rejection: { reason: "log_mismatch" } });
    }
  });

  test("receiver 3 deletes an entry that conflicts with a new one, and all that follow it", () => {
    const raft = startNode({ terms: [1, 1, 1, 1] });
    ask(raft, append({ prev: [1, 1], entries: commands(2, [1, 2]) }));
    expect(termsOf(raft)).toEqual([1, 1, 2]);
  });

  test("receiver 4 appends the new entries that are not yet in the log", () => {
    const raft = startNode({ terms: [1, 1] });
    raft.step(append({ prev: [1, 1], entries: commands(2, [1, 1, 2]) }));
    expect(settle(raft).entries).toEqual(commands(3, [1, 2]));
  });

  test("receiver 5 sets commitIndex to the lower of leaderCommit and the last new entry when leaderCommit > commitIndex", () => {
    const raft = startNode();
    ask(raft, append({ entries: commands(1, [1, 1, 1]), commit: 2 }));
    expect(raft.log.commit).toBe(2);
    ask(raft, append({ prev: [3, 1], entries: commands(4, [1]), commit: 9 }));
    expect(raft.log.commit).toBe(4);
  });
});

describe("Raft figure 2, RequestVote RPC", () => {
  test("the result term makes a candidate whose term is over update itself", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    raft.campaign();
    const [request] = settle(raft).requests;
    raft.receive(vote(request!, false, 7));
    expect([raft.role, raft.term]).toEqual(["follower", 7]);
  });

  test("receiver 1 replies false when term < currentTerm", () => {
    expect(ask(startNode({ terms: [3] }), requestVote(2, [9, 2]))).toMatchObject({ granted: false, term: 3 });
  });

  test("receiver 2 grants the vote when votedFor is nobody or the candidate, and its log is at least as up-to-date", () => {
    const raft = startNode({ terms: [1, 2] });
    expect(ask(raft, requestVote(3, [1, 1]))).toMatchObject({ granted: false });
    expect(ask(raft, requestVote(3, [2, 2]))).toMatchObject({ granted: true });
    expect(ask(raft, requestVote(3, [2, 2]))).toMatchObject({ granted: true });
    expect(ask(raft, requestVote(3, [2, 2], { from: "n3" }))).toMatchObject({ granted: false });
  });
});

describe("Raft figure 2, rules for all servers", () => {
  test("entries are applied in order when commitIndex > lastApplied", () => {
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
  test.each(higher)("a request with a higher term has it adopted, and makes a leader a follower: %s", (_, request) => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.step(request);
    expect([raft.role, raft.term]).toEqual(["follower", 4]);
  });

  test("an answer with a higher term has it adopted by a leader", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const [request] = appendsOf(settle(raft));
    raft.receive(refuse(request!, { reason: "stale_term", term: 4 }));
    expect([raft.role, raft.term]).toEqual(["follower", 4]);
  });
});

describe("Raft figure 2, rules for followers", () => {
  test("followers answer candidates and leaders", () => {
    const raft = startNode();
    expect(ask(raft, requestVote(1, [0, 0])).type).toBe("request_vote_answer");
    expect(ask(raft, append({ term: 1 })).type).toBe("append_entries_answer");
  });

  test("followers campaign when an election timeout passes without AppendEntries of the leader or a granted vote", () => {
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
  test("candidates start an election with a higher term, their own vote, a new timeout and RequestVote to all others", () => {
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

  test("candidates with the votes of a majority become leader", () => {
    const five = ["n1", "n2", "n3", "n4", "n5"];
    const raft = startNode({ memberships: [{ index: 0, members: voters(...five) }] });
    raft.campaign();
    const [first, second] = settle(raft).requests;
    raft.receive(vote(first!, true));
    expect(raft.role).toBe("candidate");
    raft.receive(vote(second!, true));
    expect([raft.role, raft.leader]).toEqual(["leader", "n1"]);
  });

  test("candidates that get AppendEntries of the term's leader become followers", () => {
    const raft = startNode({ memberships: [{ index: 0, members: voters(...ids) }] });
    raft.campaign();
    raft.step(append({ term: 1, from: "n3" }));
    expect([raft.role, raft.leader, raft.term]).toEqual(["follower", "n3", 1]);
  });

  test("candidates whose election timeout ends start a new election", () => {
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
  test("leaders send AppendEntries to each server upon election, and again in idle times", () => {
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

  test("leaders keep all others from campaigning in idle times", () => {
    const cluster = new Cluster(ids, { elections: "automatic" });
    cluster.elect("n1");
    cluster.pass(100);
    expect([cluster.leaders, cluster.raft("n2").term]).toEqual([["n1"], 1]);
  });

  test("leaders append a client's command to the log, and hand it out when it can be applied", () => {
    const cluster = new Cluster(ids);
    const raft = cluster.elect("n1");
    cluster.propose("n1", "a");
    expect(raft.log.last.index).toBe(2);
    expect(cluster.applied("n1").map(({ index }) => index)).toEqual([1]);
    cluster.deliver();
    expect(cluster.applied("n1").at(-1)).toEqual(command(2, 1, "a"));
  });

  test("leaders send AppendEntries with the entries from nextIndex on when the log reaches that far", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    for (const text of ["a", "b"]) raft.propose(bytes(text));
    const sent = appendsOf(settle(raft)).filter(({ to }) => to === "n2");
    expect(sent.flatMap(({ entries }) => entries.map(({ index }) => index))).toEqual([2, 3]);
    expect(sent[0]?.prev).toEqual({ index: 1, term: 1 });
  });

  test("leaders raise a follower's nextIndex and matchIndex on success", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
    expect(progressOf(raft, "n2")).toMatchObject({ match: 2, next: 3 });
  });

  test("leaders lower nextIndex on an inconsistency, and send AppendEntries again", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1, 1] });
    expect(requests[0]).toMatchObject({ to: "n2", prev: { index: 3, term: 1 } });
    raft.receive(refuse(requests[0]!, { conflictIndex: 2 }));
    expect(appendsOf(settle(raft))).toMatchObject([{ to: "n2", prev: { index: 1, term: 1 } }]);
  });

  test("leaders raise commitIndex to an index that a majority has, when its entry is of the present term", () => {
    const { raft, requests } = elected(["n2", "n3"], { terms: [1, 1] });
    // The two entries of term 1 alone do not count, on however many servers they are.
    for (const request of requests) raft.receive(accept(request, 2));
    expect(raft.log.commit).toBe(0);
    raft.receive(accept(requests[0]!, 3));
    expect(raft.log.commit).toBe(3);
  });
});

test("leaders and candidates send servers that are down nothing but retries (Raft figure 2)", () => {
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
