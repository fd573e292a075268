import { describe, expect, test } from "vitest";
import { accept, appendsOf, bytes, settle, startLeaderOf } from "../../support/nodes/core.js";

/** A leader whose followers have written an entry, which is committed thereby. */
function leaderWithCommit() {
  const raft = startLeaderOf(["n2", "n3"]);
  raft.propose(bytes("a"));
  for (const request of appendsOf(settle(raft))) raft.receive(accept(request));
  return raft;
}

describe("a commit that a leader's followers have not been told of", () => {
  test("is told by no message of its own before the node asks for one", () => {
    const raft = leaderWithCommit();
    expect([raft.log.commit, raft.hasUntoldCommit, raft.takeMessages()]).toEqual([2, true, []]);
    raft.announceCommit();
    expect(raft.takeMessages()).toMatchObject([
      { to: "n2", leaderCommit: 2, entries: [] },
      { to: "n3", leaderCommit: 2, entries: [] },
    ]);
    expect(raft.hasUntoldCommit).toBe(false);
  });

  test("is told by the next entries", () => {
    const raft = leaderWithCommit();
    raft.propose(bytes("b"));
    expect(raft.takeMessages()).toMatchObject([
      { to: "n2", leaderCommit: 2, entries: [{ index: 3 }] },
      { to: "n3", leaderCommit: 2, entries: [{ index: 3 }] },
    ]);
    expect(raft.hasUntoldCommit).toBe(false);
    raft.announceCommit();
    expect(raft.takeMessages()).toEqual([]);
  });

  test("is told by the question that a linearizable read asks", () => {
    const raft = leaderWithCommit();
    raft.readIndex(1);
    expect(raft.takeMessages()).toMatchObject([
      { to: "n2", leaderCommit: 2 },
      { to: "n3", leaderCommit: 2 },
    ]);
    expect(raft.hasUntoldCommit).toBe(false);
  });

  test("is told at once when a member that reads waits for it, also while entries are under way", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const [toN2] = appendsOf(settle(raft));
    raft.receive(accept(toN2!));
    raft.hastenCommitNotice();
    expect(raft.takeMessages()).toMatchObject([
      { to: "n2", leaderCommit: 2, entries: [] },
      { to: "n3", leaderCommit: 2, entries: [] },
    ]);
    raft.hastenCommitNotice();
    expect(raft.takeMessages()).toEqual([]);
  });

  test("waits while entries are under way, whose answer makes room for the next message", () => {
    const raft = startLeaderOf(["n2", "n3"]);
    raft.propose(bytes("a"));
    const [toN2] = appendsOf(settle(raft));
    raft.receive(accept(toN2!));
    raft.announceCommit();
    expect(raft.takeMessages()).toMatchObject([{ to: "n2", leaderCommit: 2 }]);
    expect(raft.hasUntoldCommit).toBe(false);
  });
});

describe("a Ready that is written", () => {
  test("frees its messages and the next Ready, while its entries still wait to be applied", () => {
    const raft = leaderWithCommit();
    const first = raft.ready();
    expect(first.committed.map(({ index }) => index)).toEqual([2]);
    raft.written(first);
    raft.propose(bytes("b"));
    const second = raft.ready();
    expect([second.entries.map(({ index }) => index), second.committed, raft.log.applied]).toEqual([[3], [], 1]);
    raft.applied(first.committed);
    expect(raft.log.applied).toBe(2);
  });

  test("lets committed entries be taken while no Ready is in hand", () => {
    const raft = leaderWithCommit();
    const entries = raft.takeCommitted();
    expect([entries.map(({ index }) => index), raft.hasCommitted]).toEqual([[2], false]);
    raft.applied(entries);
    expect(raft.log.applied).toBe(2);
  });
});
