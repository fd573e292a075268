import { describe, expect, test } from "vitest";
import { append, ask, requestVote, settle, startNode, vote, voters } from "../../support/nodes/core.js";
import { Cluster, isAppend, isFrom, isVoteRequest } from "../cluster.js";

const ids = ["n1", "n2", "n3"];
const memberships = [{ index: 0, members: voters(...ids) }];

/** A node whose timer has just fired, with what it asks. */
function preCandidate() {
  const raft = startNode({ terms: [1, 1], memberships, elections: "automatic" });
  for (let tick = 0; tick < 10; tick++) raft.tick();
  return { raft, requests: settle(raft).requests };
}

describe("thesis section 9.6, pre-vote", () => {
  test("a candidate first asks whether it would be elected, in the term that it would have", () => {
    const { raft, requests } = preCandidate();
    expect([raft.role, raft.term]).toEqual(["pre-candidate", 1]);
    expect(requests).toMatchObject(
      ["n2", "n3"].map((to) => ({ type: "request_vote", to, term: 2, preVote: true, last: { index: 2, term: 1 } })),
    );
  });

  test("a candidate takes a higher term and starts the election only when a majority is willing", () => {
    const { raft, requests } = preCandidate();
    raft.receive(vote(requests[0]!, false, 1));
    expect([raft.role, raft.term]).toEqual(["pre-candidate", 1]);
    raft.receive(vote(requests[1]!, true));
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
    expect(settle(raft).requests).toMatchObject(["n2", "n3"].map((to) => ({ to, term: 2, preVote: false })));
  });

  test("a candidate without a willing majority waits for another timeout, in its old term", () => {
    const { raft, requests } = preCandidate();
    for (const request of requests) raft.receive(vote(request, false, 1));
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
    for (let tick = 0; tick < 9; tick++) raft.tick();
    expect(settle(raft).requests).toEqual([]);
    raft.tick();
    expect(settle(raft).requests).toHaveLength(2);
  });

  test("a server is willing only if its own log is not more up-to-date", () => {
    const raft = startNode({ terms: [1, 2] });
    expect(ask(raft, requestVote(3, [2, 2], { preVote: true }))).toMatchObject({ granted: true });
    expect(ask(raft, requestVote(3, [1, 2], { preVote: true }))).toMatchObject({ granted: false });
    expect(ask(raft, requestVote(3, [9, 1], { preVote: true }))).toMatchObject({ granted: false });
  });

  test("a server is willing only if it has not heard from a leader within an election timeout", () => {
    const raft = startNode({ memberships, elections: "automatic", random: () => 0.5 });
    ask(raft, append({ term: 1 }));
    for (let tick = 0; tick < 9; tick++) raft.tick();
    expect(ask(raft, requestVote(2, [9, 1], { preVote: true }))).toMatchObject({ granted: false });
    raft.tick();
    expect(ask(raft, requestVote(2, [9, 1], { preVote: true }))).toMatchObject({ granted: true });
  });

  test("a server is willing only if its term is below the requested one", () => {
    const raft = startNode({ terms: [1], term: 4 });
    expect(ask(raft, requestVote(4, [9, 3], { preVote: true }))).toMatchObject({ granted: false, term: 4 });
  });

  test("a willing server changes nothing: no term, no vote, no timer, and it may be willing for several", () => {
    const raft = startNode({ terms: [1], memberships, elections: "automatic" });
    for (let tick = 0; tick < 9; tick++) raft.tick();
    for (const from of ["n2", "n3"]) {
      expect(ask(raft, requestVote(2, [1, 1], { from, preVote: true }))).toMatchObject({ granted: true });
    }
    expect(raft.term).toBe(1);
    expect(raft.hasReady).toBe(false);
    raft.tick();
    expect(raft.role).toBe("pre-candidate");
  });

  test("votes for an election do not count as pre-votes, nor the other way round", () => {
    const { raft, requests } = preCandidate();
    raft.receive({ ...vote(requests[0]!, true, 1), request: { term: 1, preVote: false } });
    expect([raft.role, raft.term]).toEqual(["pre-candidate", 1]);
    raft.receive(vote(requests[0]!, true));
    settle(raft);
    raft.receive(vote(requests[1]!, true));
    expect([raft.role, raft.term]).toEqual(["candidate", 2]);
  });

  test("a message of a leader ends the pre-vote", () => {
    const { raft, requests } = preCandidate();
    raft.step(append({ term: 1, prev: [2, 1] }));
    raft.receive(vote(requests[0]!, true));
    expect([raft.role, raft.leader, raft.term]).toEqual(["follower", "n2", 1]);
  });

  test("a server that was cut off returns without a higher term, and so disturbs no other", () => {
    const cluster = new Cluster(ids, { elections: "automatic" });
    cluster.elect("n1");
    cluster.partition(["n1", "n2"], ["n3"]);
    cluster.pass(200);
    expect(cluster.raft("n3").term).toBe(1);
    cluster.heal();
    cluster.pass(50);
    expect([cluster.leaders, cluster.raft("n1").term]).toEqual([["n1"], 1]);
  });

  test("a server that hears no other but is heard disturbs no other, either", () => {
    const cluster = new Cluster(ids, { elections: "automatic" });
    cluster.elect("n1");
    for (let tick = 0; tick < 100; tick++) {
      cluster.tick();
      cluster.drop(({ to }) => to === "n3");
      cluster.deliver();
    }
    expect(cluster.flights(isVoteRequest)).toEqual([]);
    expect([cluster.leaders, cluster.raft("n1").term]).toEqual([["n1"], 1]);
  });

  test("the only voter asks no other", () => {
    const raft = startNode({ elections: "automatic" });
    for (let tick = 0; tick < 10; tick++) raft.tick();
    expect([raft.role, raft.term]).toEqual(["leader", 1]);
  });

  test("a pre-vote promises nothing, and is asked for and answered without a write", () => {
    const { requests } = preCandidate();
    expect(requests).toHaveLength(2);
    const raft = startNode({ terms: [1] });
    raft.step(append({ prev: [1, 1], term: 5 }));
    raft.step(requestVote(6, [9, 9], { preVote: true, from: "n3" }));
    // The new term is not written yet.
    expect(raft.takeMessages()).toMatchObject([{ type: "request_vote_answer", to: "n3", granted: true }]);
  });

  test("a candidate that is behind learns the term by the denial", () => {
    const cluster = new Cluster(
      ids,
      { terms: [1] },
      { n1: { elections: "automatic" }, n2: { term: 5 }, n3: { term: 5 } },
    );
    cluster.tick(10, ["n1"]);
    cluster.deliver((flight) => !isAppend(flight) && (isVoteRequest(flight) || isFrom("n2", "n3")(flight)));
    expect([cluster.raft("n1").role, cluster.raft("n1").term]).toEqual(["follower", 5]);
    cluster.pass(20);
    expect([cluster.leaders, cluster.raft("n1").term]).toEqual([["n1"], 6]);
  });
});
