import { expect, test } from "vitest";
import type { PeerRequest } from "../../src/core/messages.js";
import type { Raft } from "../../src/core/raft.js";
import { settle, startNode, voters } from "./support.js";

const ELECTION_TICKS = 10;

/** Hands in the good answers of `ids` to what was sent to them. */
function answer(raft: Raft, requests: readonly PeerRequest[], ids: readonly string[]): void {
  for (const { to, ...request } of requests) {
    if (!ids.includes(to)) continue;
    if (request.type === "append_entries") {
      const { term, round, prev, entries } = request;
      const matchIndex = prev.index + entries.length;
      const asked = { term, round, prevIndex: prev.index };
      raft.receive({
        type: "append_entries_answer",
        from: to,
        term,
        matchIndex,
        lastIndex: matchIndex,
        request: asked,
      });
    } else if (request.type === "request_vote") {
      const { term, preVote } = request;
      raft.receive({ type: "request_vote_answer", from: to, term, granted: true, request: { term, preVote } });
    }
  }
}

/** n1 leads three, and n2 alone answers, until nothing is left to say. */
function leaderOfThree(): Raft {
  const raft = startNode({
    memberships: [{ index: 0, members: voters("n1", "n2", "n3") }],
    elections: "automatic",
    electionTicks: ELECTION_TICKS,
  });
  raft.campaign();
  converse(raft);
  expect(raft.role).toBe("leader");
  return raft;
}

function converse(raft: Raft): void {
  for (let { requests } = settle(raft); requests.length > 0; { requests } = settle(raft))
    answer(raft, requests, ["n2"]);
}

test("a member that answers counts as active at any moment, and one that does not is found out", () => {
  const raft = leaderOfThree();
  for (let tick = 1; tick <= 3 * ELECTION_TICKS; tick++) {
    raft.tick();
    // Before the answers to this tick's heartbeats.
    const active = raft.progress.filter(({ isActive }) => isActive).map(({ id }) => id);
    expect(active, `after ${tick} ticks`).toEqual(tick < 2 * ELECTION_TICKS ? ["n2", "n3"] : ["n2"]);
    converse(raft);
  }
});

test("leadership goes to a member that answers, at whatever moment it is handed over", () => {
  for (let ticks = 1; ticks <= 2 * ELECTION_TICKS; ticks++) {
    const raft = leaderOfThree();
    for (let tick = 1; tick < ticks; tick++) {
      raft.tick();
      converse(raft);
    }
    raft.tick();
    expect(raft.transferLeadership(undefined), `after ${ticks} ticks`).toBeUndefined();
    expect(raft.transferTarget).toBe("n2");
  }
});
