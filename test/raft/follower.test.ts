import { describe, expect, test } from "vitest";
import {
  advance,
  append,
  ask,
  command,
  commands,
  install,
  logFacts,
  settle,
  startLeader,
  startNode,
  termsOf,
} from "../support/nodes/core.js";

describe("the receiver of AppendEntries (Raft figure 2)", () => {
  test("1. replies false if term < currentTerm", () => {
    const raft = startNode({ terms: [1, 3], commit: 1, applied: 1 });
    const before = logFacts(raft);
    const answer = ask(raft, append({ term: 2, prev: [2, 2], entries: commands(3, [2]), commit: 2 }));
    expect(answer).toMatchObject({ term: 3, rejection: { reason: "stale_term" } });
    expect(answer.outcome).toBe("rejected");
    expect(logFacts(raft)).toEqual(before);
    expect(raft.leader).toBeUndefined();
  });

  test("2. replies false if the log has no entry at prevLogIndex", () => {
    const raft = startNode({ terms: [1, 1] });
    const answer = ask(raft, append({ prev: [5, 1], entries: commands(6, [1]) }));
    expect(answer).toMatchObject({ lastIndex: 2, rejection: { reason: "log_mismatch" } });
    expect(termsOf(raft)).toEqual([1, 1]);
  });

  test("2. replies false if the entry at prevLogIndex has another term", () => {
    const raft = startNode({ terms: [1, 1] });
    const answer = ask(raft, append({ prev: [2, 2], entries: commands(3, [2]), commit: 3 }));
    expect(answer).toMatchObject({ rejection: { reason: "log_mismatch" } });
    expect(termsOf(raft)).toEqual([1, 1]);
    expect(raft.log.commit).toBe(0);
  });

  test("3. deletes an existing entry that conflicts with a new one, and all that follow it", () => {
    const raft = startNode({ terms: [1, 1, 1, 1] });
    expect(ask(raft, append({ prev: [1, 1], entries: commands(2, [2]) }))).toMatchObject({
      matchIndex: 2,
      lastIndex: 2,
    });
    expect(termsOf(raft)).toEqual([1, 2]);
  });

  test("3. promises by a delayed answer no entries that a later leader replaces meanwhile", () => {
    const raft = startNode({ terms: [1, 1] });
    const first = append({ term: 2, prev: [2, 1], entries: commands(3, [2, 2]) });
    const kept = append({ term: 2, prev: [1, 1], entries: [command(2, 1)] });
    const second = append({ term: 3, prev: [2, 1], entries: commands(3, [3]) });
    for (const message of [kept, first, second]) raft.step(message);
    const answers = settle(raft).messages;
    const answerTo = ({ requestId }: { requestId: number }) => answers.find((each) => each.requestId === requestId);
    expect(answerTo(first)).toMatchObject({ term: 3, lastIndex: 2, rejection: { reason: "stale_term" } });
    expect(answerTo(first)).not.toHaveProperty("matchIndex");
    expect(answerTo(kept)).toMatchObject({ matchIndex: 2 });
    expect(answerTo(second)).toMatchObject({ term: 3, matchIndex: 3 });
  });

  test("3. keeps entries that do not conflict, even those behind an old message's end", () => {
    const raft = startNode({ terms: [1, 1, 1, 1] });
    const answer = ask(raft, append({ prev: [1, 1], entries: commands(2, [1, 1]) }));
    expect(answer).toMatchObject({ matchIndex: 3, lastIndex: 4 });
    expect(termsOf(raft)).toEqual([1, 1, 1, 1]);
  });

  test("4. appends the entries that are not yet in the log, and none twice", () => {
    const raft = startNode({ terms: [1, 1] });
    raft.step(append({ prev: [0, 0], entries: commands(1, [1, 1, 2, 2]) }));
    raft.step(append({ prev: [1, 1], entries: commands(2, [1, 2, 2]) }));
    const { entries, messages } = settle(raft);
    expect(entries).toEqual(commands(3, [2, 2]));
    expect(messages).toMatchObject([{ matchIndex: 4 }, { matchIndex: 4 }]);
    expect(termsOf(raft)).toEqual([1, 1, 2, 2]);
  });

  test("5. sets commitIndex to min(leaderCommit, index of last new entry)", () => {
    const raft = startNode();
    ask(raft, append({ entries: commands(1, [1, 1, 1]), commit: 2 }));
    expect(raft.log.commit).toBe(2);
    ask(raft, append({ prev: [3, 1], entries: commands(4, [1]), commit: 99 }));
    expect(raft.log.commit).toBe(4);
  });

  test("5. does not commit entries behind the message's, which may not be the leader's", () => {
    const raft = startNode({ terms: [1, 1, 1, 1] });
    ask(raft, append({ prev: [2, 1], term: 2, commit: 4 }));
    expect(raft.log.commit).toBe(2);
  });

  test("5. never lowers commitIndex", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 3 });
    ask(raft, append({ prev: [1, 1], term: 2, commit: 1 }));
    expect(raft.log.commit).toBe(3);
  });

  test("answers a heartbeat with the index up to which the logs agree, and learns the leader", () => {
    const raft = startNode({ terms: [1, 1] });
    const answer = ask(raft, append({ from: "n7", prev: [2, 1], term: 4 }));
    expect(answer).toMatchObject({ to: "n7", term: 4, matchIndex: 2, lastIndex: 2 });
    expect([raft.term, raft.leader, raft.role]).toEqual([4, "n7", "follower"]);
  });

  test("sends its answer with the entries that it promises durable, not before", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1]) }));
    const ready = raft.ready();
    expect(ready.entries).toHaveLength(1);
    expect(ready.mustSync).toBe(true);
    expect(ready.messages).toHaveLength(1);
  });
});

describe("a refusal for fast backtracking (end of Raft section 5.3)", () => {
  test("names the index behind the end of a log that is too short", () => {
    const detail = expect.stringContaining("the log ends at 2: send entries from 3");
    expect(ask(startNode({ terms: [1, 1] }), append({ prev: [9, 3] }))).toMatchObject({
      rejection: { reason: "log_mismatch", conflictTerm: undefined, conflictIndex: 3, detail },
    });
  });

  test("names the term of a conflict and the first index of that term", () => {
    const raft = startNode({ terms: [1, 2, 2, 2, 3] });
    expect(ask(raft, append({ prev: [4, 4] }))).toMatchObject({ rejection: { conflictTerm: 2, conflictIndex: 2 } });
  });

  test("names no committed index", () => {
    const raft = startNode({ terms: [1, 2, 2, 2], commit: 2 });
    expect(ask(raft, append({ prev: [4, 4] }))).toMatchObject({ rejection: { conflictTerm: 2, conflictIndex: 3 } });
  });

  test("names no index in the trimmed range", () => {
    const raft = startNode({ boundary: { index: 5, term: 2 }, terms: [2, 2] });
    expect(ask(raft, append({ prev: [7, 4] }))).toMatchObject({ rejection: { conflictTerm: 2, conflictIndex: 6 } });
  });
});

describe("a message that no correct leader sends", () => {
  test("is refused as `safety` when an entry conflicts with a committed one, and nothing changes", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 2, applied: 2 });
    const before = logFacts(raft);
    const answer = ask(raft, append({ prev: [1, 1], entries: commands(2, [2, 2]), commit: 3 }));
    expect(answer).toMatchObject({ rejection: { reason: "safety" } });
    expect(answer).toMatchObject({
      rejection: { detail: expect.stringContaining("entry 2 of term 2 contradicts the committed entry of term 1") },
    });
    expect(answer).toMatchObject({ rejection: { detail: expect.stringContaining("expected entries from 3") } });
    expect(logFacts(raft)).toEqual(before);
  });

  test("is refused as `safety` when its prev conflicts with a committed entry", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 2, applied: 2 });
    const before = logFacts(raft);
    expect(ask(raft, append({ prev: [2, 2], entries: commands(3, [2]) }))).toMatchObject({
      rejection: { reason: "safety" },
    });
    expect(logFacts(raft)).toEqual(before);
  });
});

test("a snapshot of a lower term than a committed entry below it is refused, and nothing is changed", () => {
  const raft = startNode({ terms: [1, 3, 3], commit: 2, applied: 2 });
  const [term, before] = [raft.term, logFacts(raft)];
  const answer = ask(raft, install([9, 2], { leaderTerm: 7 }));
  expect(answer).toMatchObject({ outcome: "safety", term });
  expect(answer.detail).toContain("below the term 3 of the committed entry 2");
  expect([raft.term, logFacts(raft), raft.violations.count]).toEqual([term, before, 1]);
});

describe("a conditional AppendEntries", () => {
  const isConditional = true;

  test.each([
    ["behind a gap", append({ term: 7, prev: [5, 1], entries: commands(6, [7]), isConditional }), "log_mismatch"],
    ["that contradicts", append({ term: 7, prev: [1, 1], entries: commands(2, [7]), isConditional }), "safety"],
    ["behind another entry", append({ term: 7, prev: [2, 7], entries: commands(3, [7]), isConditional }), "safety"],
  ])("%s is refused without a change of the term, and is no violation", (_what, message, reason) => {
    const raft = startNode({ terms: [1, 1, 1], commit: 2, applied: 2 });
    const [term, before] = [raft.term, logFacts(raft)];
    expect(ask(raft, message)).toMatchObject({ term, rejection: { reason } });
    expect([raft.term, raft.leader, logFacts(raft)]).toEqual([term, undefined, before]);
    expect(raft.violations.count).toBe(0);
  });

  test("that contradicts a committed entry is told that entry's term and the first index that is free", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 2, applied: 2 });
    const answer = ask(raft, append({ prev: [1, 1], entries: commands(2, [7]), isConditional }));
    expect(answer).toMatchObject({ rejection: { contradicted: { conflictTerm: 1, conflictIndex: 3 } } });
  });

  test("that fits is accepted as any other", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 1, applied: 1 });
    const message = append({ term: 7, prev: [2, 1], entries: commands(3, [7, 7]), commit: 4, isConditional });
    expect(ask(raft, message)).toMatchObject({ term: 7, matchIndex: 4 });
    expect([raft.term, raft.leader, raft.log.commit]).toEqual([7, "n2", 4]);
    expect(termsOf(raft)).toEqual([1, 1, 7, 7]);
  });
});

describe("AppendEntries at the snapshot boundary", () => {
  const trimmed = { boundary: { index: 5, term: 2 }, terms: [2, 3] };

  test("skips the entries that the snapshot covers when its prev lies below the boundary (R1)", () => {
    const raft = startNode(trimmed);
    const answer = ask(raft, append({ prev: [3, 1], entries: commands(4, [1, 2, 2, 3, 3]), commit: 8 }));
    expect(answer).toMatchObject({ matchIndex: 8, lastIndex: 8 });
    expect(termsOf(raft)).toEqual([2, 3, 3]);
    expect(raft.log.commit).toBe(8);
  });

  test("is accepted up to the boundary when it ends below it, and changes nothing (R1)", () => {
    const raft = startNode(trimmed);
    const before = logFacts(raft);
    expect(ask(raft, append({ prev: [1, 1], entries: commands(2, [1]), term: 3, commit: 99 }))).toMatchObject({
      matchIndex: 5,
    });
    expect(ask(raft, append({ prev: [2, 1], term: 3, commit: 99 }))).toMatchObject({ matchIndex: 5 });
    expect(logFacts(raft)).toEqual(before);
  });

  test("is accepted up to the boundary when it ends at it, and changes nothing (R1)", () => {
    const raft = startNode(trimmed);
    const before = logFacts(raft);
    expect(ask(raft, append({ prev: [4, 1], entries: commands(5, [2]), term: 3, commit: 5 }))).toMatchObject({
      matchIndex: 5,
    });
    expect(logFacts(raft)).toEqual(before);
  });

  test("is refused when the rest conflicts above the boundary (R1)", () => {
    const raft = startNode(trimmed);
    ask(raft, append({ prev: [4, 1], entries: commands(5, [2, 4]) }));
    expect(termsOf(raft)).toEqual([4]);
  });

  test("is refused when its entry at the boundary is not the trimmed one (R1)", () => {
    const raft = startNode(trimmed);
    const before = logFacts(raft);
    const answer = ask(raft, append({ prev: [4, 1], entries: [command(5, 3), command(6, 3)] }));
    expect(answer).toMatchObject({ rejection: { reason: "safety" } });
    expect(logFacts(raft)).toEqual(before);
  });

  test("has its prev compared with the snapshot's term when prev is exactly at the boundary (R2)", () => {
    const raft = startNode(trimmed);
    expect(ask(raft, append({ prev: [5, 2], entries: commands(6, [2, 3, 3]) }))).toMatchObject({ matchIndex: 8 });
    const before = logFacts(raft);
    expect(ask(raft, append({ prev: [5, 3], entries: commands(6, [4]) }))).toMatchObject({
      rejection: { reason: "safety" },
    });
    expect(logFacts(raft)).toEqual(before);
  });

  test("has its prev compared with the snapshot's term when the whole log is trimmed (R2)", () => {
    const raft = startNode({ boundary: { index: 5, term: 2 } });
    expect(ask(raft, append({ prev: [5, 2], entries: commands(6, [2]) }))).toMatchObject({ matchIndex: 6 });
  });
});

describe("the receiver of InstallSnapshot (Raft figure 13)", () => {
  test("1. refuses a snapshot of an older term", () => {
    const raft = startNode({ terms: [4] });
    const before = logFacts(raft);
    const answer = ask(raft, install([9, 3]));
    expect(answer).toMatchObject({
      outcome: "stale_term",
      term: 4,
      detail: expect.stringContaining("3"),
    });
    expect(logFacts(raft)).toEqual(before);
  });

  test("ignores a snapshot at or below the commit index, and tells its sender the true position (R3)", () => {
    const raft = startNode({ terms: [1, 1, 1, 1], commit: 3, applied: 3 });
    const before = logFacts(raft);
    for (const index of [1, 3]) {
      expect(ask(raft, install([index, 1]))).toMatchObject({ outcome: "already_committed", matchIndex: 3 });
    }
    expect(logFacts(raft)).toEqual(before);
    expect(raft.snapshot).toBeUndefined();
  });

  test("keeps the suffix behind the snapshot when the local entry at its index has the same term (R4)", () => {
    const raft = startNode({ terms: [1, 1, 2, 2], commit: 1, applied: 1 });
    expect(ask(raft, install([3, 2]))).toMatchObject({ outcome: "installed", matchIndex: 3 });
    expect(raft.log.boundary).toEqual({ index: 3, term: 2 });
    expect(raft.log.last).toEqual({ index: 4, term: 2 });
    expect([raft.log.applied, raft.log.commit]).toEqual([3, 3]);
  });

  test("drops the whole log when that term differs, and the conflicting entry does not come back (R4)", () => {
    const raft = startNode({ terms: [1, 1, 1, 1], commit: 1, applied: 1 });
    expect(ask(raft, install([3, 2]))).toMatchObject({ outcome: "installed", matchIndex: 3 });
    expect(raft.log.last).toEqual({ index: 3, term: 2 });
    expect(ask(raft, append({ prev: [3, 2], entries: commands(4, [2]) }))).toMatchObject({ matchIndex: 4 });
  });

  test("checks the entries that follow the snapshot by the term at the boundary (R6)", () => {
    const raft = startNode();
    ask(raft, install([50, 7]));
    expect(raft.log.termAt(50)).toBe(7);
    expect(ask(raft, append({ prev: [50, 7], entries: commands(51, [7]), commit: 51 }))).toMatchObject({
      matchIndex: 51,
    });
    expect(raft.log.commit).toBe(51);
  });

  test("accepts entries behind a snapshot that is not installed yet, and applies them after it", () => {
    const raft = startNode({ term: 1 });
    raft.step(install([5, 1]));
    raft.step(append({ prev: [5, 1], entries: commands(6, [1]), commit: 6 }));
    const first = raft.ready();
    expect(first.snapshot?.index).toBe(5);
    expect(first.committed).toEqual([]);
    advance(raft, first);
    expect(settle(raft).committed).toEqual([]);
    raft.snapshotInstalled(first.snapshot!, 5);
    expect(settle(raft).committed).toEqual(commands(6, [1]));
  });

  test("follows the sender of a snapshot with a higher term as leader", () => {
    const raft = startNode({ terms: [1] });
    raft.step(install([5, 1], { from: "n3", leaderTerm: 8 }));
    expect([raft.term, raft.leader]).toEqual([8, "n3"]);
  });

  test("refuses a snapshot whose term is above its sender's as `safety`, because no node could start from it", () => {
    const raft = startNode({ terms: [1] });
    const before = logFacts(raft);
    expect(ask(raft, install([9, 6], { leaderTerm: 5 }))).toMatchObject({ outcome: "safety" });
    expect(logFacts(raft)).toEqual(before);
  });

  test("drops a deposed leader's uncommitted proposals with the log, which is the core's part (R12)", () => {
    const raft = startLeader();
    raft.propose(new TextEncoder().encode("lost"));
    settle(raft);
    raft.propose(new TextEncoder().encode("unknown"));
    raft.step(install([9, 2]));
    expect(settle(raft).committed).toEqual([]);
    expect(raft.log.last).toEqual({ index: 9, term: 2 });
    expect(raft.log.applied).toBe(9);
  });
});
