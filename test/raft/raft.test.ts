import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import {
  advance,
  append,
  ask,
  command,
  commands,
  install,
  requestVote,
  settle,
  startLeader,
  startNode,
  termsOf,
  voters,
} from "../support/nodes/core.js";

describe("a Ready", () => {
  test("does not exist when nothing has happened", () => {
    expect(startNode({ terms: [1, 1], commit: 2, applied: 2 }).hasReady).toBe(false);
  });

  test("comes one at a time: the next one waits until the first is done", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1]) }));
    const first = raft.ready();
    raft.step(append({ prev: [1, 1], entries: commands(2, [1]) }));
    expect(raft.hasReady).toBe(false);
    expect(() => raft.ready()).toThrow("one Ready at a time");
    advance(raft, first);
    expect(raft.hasReady).toBe(true);
  });

  test("can be done only once, and only when it was taken", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1]) }));
    const ready = raft.ready();
    expect(() => advance(raft, { ...ready })).toThrow("the Ready that was taken is the one that is done");
    advance(raft, ready);
    expect(() => advance(raft, ready)).toThrow("the Ready that was taken is the one that is done");
  });

  test("holds each entry, message and hard state once", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1]) }));
    const first = raft.ready();
    raft.step(append({ prev: [1, 1], entries: commands(2, [1]) }));
    advance(raft, first);
    const second = raft.ready();
    expect([first.entries, second.entries]).toEqual([commands(1, [1]), commands(2, [1])]);
    expect([first.messages.length, second.messages.length]).toEqual([1, 1]);
    expect(first.hardState).toEqual({ term: 1, vote: undefined, commit: 0 });
    expect(second.hardState).toBeUndefined();
  });

  test("has mustSync false when only the commit index moved", () => {
    const raft = startNode({ terms: [1, 1] });
    raft.step(append({ prev: [2, 1], commit: 1 }));
    const ready = raft.ready();
    expect(ready.hardState).toEqual({ term: 1, vote: undefined, commit: 1 });
    expect(ready.mustSync).toBe(false);
  });

  test.each([
    ["the term moved", append({ prev: [2, 1], term: 2 })],
    ["a vote was given", requestVote(1, [2, 1])],
    ["there are entries", append({ prev: [2, 1], entries: commands(3, [1]) })],
    ["there is a snapshot", install([9, 1])],
  ])("has mustSync true when %s", (_, message) => {
    const raft = startNode({ terms: [1, 1] });
    raft.step(message);
    expect(raft.ready().mustSync).toBe(true);
  });

  test("is not needed for an answer that promises nothing new", () => {
    const raft = startNode({ terms: [1, 1] });
    raft.step(append({ prev: [2, 1] }));
    expect(raft.takeMessages()).toMatchObject([{ matchIndex: 2 }]);
    expect(raft.hasReady).toBe(false);
  });
});

describe("entries that were replaced while a Ready was outstanding", () => {
  test("are written again from the place of the conflict, and answered after that", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1, 1, 1]) }));
    const first = raft.ready();
    const replacing = append({ prev: [1, 1], entries: commands(2, [2]), commit: 2 });
    raft.step(replacing);
    advance(raft, first);
    expect(raft.log.persisted).toBe(1);
    const second = raft.ready();
    expect(second.entries).toEqual(commands(2, [2]));
    expect(second.messages).toMatchObject([{ requestId: replacing.requestId, matchIndex: 2 }]);
    advance(raft, second);
    expect(raft.log.persisted).toBe(2);
    expect(termsOf(raft)).toEqual([1, 2]);
  });

  test("are not applied from the log that is about to be overwritten, even when they came back with the same term", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1, 1, 1]) }));
    const first = raft.ready();
    raft.step(append({ prev: [1, 1], entries: commands(2, [2]) }));
    raft.step(append({ prev: [1, 1], entries: commands(2, [1, 1, 3]), commit: 4 }));
    advance(raft, first);
    const second = raft.ready();
    expect(second.entries).toEqual(commands(2, [1, 1, 3]));
    expect(second.committed.every((entry) => entry.index < 2)).toBe(true);
    advance(raft, second);
    expect(settle(raft).committed.at(-1)).toEqual(command(4, 3));
  });
});

describe("committed entries", () => {
  test("are handed out only when they are durable here", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1, 1]), commit: 2 }));
    const first = raft.ready();
    expect(first.committed).toEqual([]);
    advance(raft, first);
    expect(raft.ready().committed).toEqual(commands(1, [1, 1]));
  });

  test("are handed out once, in order, whatever is done between", () => {
    const raft = startNode();
    raft.step(append({ entries: commands(1, [1, 1]), commit: 1 }));
    advance(raft, raft.ready());
    const first = raft.ready();
    raft.step(append({ prev: [2, 1], commit: 2 }));
    advance(raft, first);
    const second = raft.ready();
    expect([first.committed, second.committed]).toEqual([[command(1, 1)], [command(2, 1)]]);
    expect(raft.log.applied).toBe(1);
    advance(raft, second);
    expect(raft.log.applied).toBe(2);
    expect(settle(raft).committed).toEqual([]);
  });

  test("come at most applyEntries at a time", () => {
    const count = limits.applyEntries + 5;
    const raft = startNode({ terms: Array<number>(count).fill(1), commit: count });
    const batches = settle(raft).readys.map((ready) => ready.committed.length);
    expect(batches).toEqual([limits.applyEntries, 5]);
  });

  test("wait until the term in which this node learned of them is durable", () => {
    const raft = startNode({ terms: [1, 1] });
    raft.step(append({ prev: [2, 1], term: 5, commit: 2 }));
    const first = raft.ready();
    expect(first.hardState).toEqual({ term: 5, vote: undefined, commit: 2 });
    expect(first.committed).toEqual([]);
    advance(raft, first);
    expect(raft.ready().committed).toEqual(commands(1, [1, 1]));
  });

  test("are not handed out while a snapshot is pending", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 2 });
    raft.step(install([3, 1]));
    const ready = raft.ready();
    expect(ready.snapshot?.index).toBe(3);
    expect(ready.committed).toEqual([]);
    advance(raft, ready);
    expect(settle(raft).committed).toEqual([]);
    expect(raft.log.applied).toBe(0);
    raft.snapshotInstalled(ready.snapshot!, 3);
    expect(settle(raft).committed).toEqual([]);
    expect(raft.log.applied).toBe(3);
  });

  test("are not handed out while a snapshot is pending, even when entries behind it are durable", () => {
    const raft = startNode({ terms: [1, 1, 1], commit: 1, applied: 1 });
    raft.step(install([2, 1]));
    raft.step(append({ prev: [3, 1], commit: 3 }));
    const ready = raft.ready();
    expect([ready.snapshot?.index, ready.committed]).toEqual([2, []]);
    advance(raft, ready);
    expect(raft.hasReady).toBe(false);
    raft.snapshotInstalled(ready.snapshot!, 2);
    expect(settle(raft).committed).toEqual([command(3, 1)]);
  });
});

describe("a snapshot to install", () => {
  test("is answered only after it is installed", () => {
    const raft = startNode({ term: 1 });
    const request = install([5, 1]);
    raft.step(request);
    const ready = raft.ready();
    expect(ready.snapshot).toBe(request.snapshot);
    expect(ready.messages).toEqual([]);
    expect(ready.hardState).toEqual({ term: 1, vote: undefined, commit: 5 });
    expect(raft.log.applied).toBe(0);
    expect(raft.takeMessages()).toEqual([]);
    expect(() => raft.snapshotInstalled(request.snapshot, 5)).toThrow("installed, once it is durable");
    advance(raft, ready);
    expect([raft.log.applied, raft.takeMessages()]).toEqual([0, []]);
    raft.snapshotInstalled(request.snapshot, 5);
    expect(raft.log.applied).toBe(5);
    const answers = raft.takeMessages();
    expect(answers).toMatchObject([{ requestId: request.requestId, outcome: "installed", matchIndex: 5 }]);
    expect(() => raft.snapshotInstalled(request.snapshot, 5)).toThrow("the pending snapshot is installed");
  });

  test("delays nothing while the state machine loads it: this node votes and accepts entries", () => {
    const raft = startNode({ term: 1 });
    const { snapshot } = install([5, 1]);
    raft.step(install([5, 1]));
    const ready = raft.ready();
    advance(raft, ready);
    raft.step(append({ prev: [5, 1], entries: commands(6, [1, 1]), commit: 7 }));
    const during = settle(raft);
    expect(during.entries).toEqual(commands(6, [1, 1]));
    expect(during.committed).toEqual([]);
    expect(during.messages).toMatchObject([{ type: "append_entries_answer", matchIndex: 7 }]);
    // Also an answer to a heartbeat is a promise now: the log is durable.
    raft.step(append({ prev: [7, 1], term: 1 }));
    expect(raft.takeMessages()).toMatchObject([{ matchIndex: 7 }]);
    for (let tick = 0; tick < 100; tick++) raft.tick();
    // R13.
    expect([raft.role, raft.term]).toEqual(["follower", 1]);
    raft.step(requestVote(2, [7, 1]));
    expect(settle(raft).messages).toMatchObject([{ type: "request_vote_answer", granted: true }]);
    raft.snapshotInstalled(ready.snapshot!, snapshot.index);
    expect(settle(raft).committed).toEqual(commands(6, [1, 1]));
  });

  /** 100 entries have come behind a snapshot at 5 that is being loaded, which is more than memory should hold. */
  function manyWhileLoading(commit: number) {
    const raft = startNode({ term: 1, limits: { windowBytes: 200 } });
    raft.step(install([5, 1]));
    const ready = raft.ready();
    advance(raft, ready);
    const entries = commands(6, Array<number>(100).fill(1));
    raft.step(append({ prev: [5, 1], entries, commit }));
    settle(raft);
    return { raft, ready, entries };
  }

  test("lets later entries leave the memory, because the state machine reads them from the log on disk", () => {
    const { raft, ready } = manyWhileLoading(90);
    expect(raft.log.windowBytes).toBeGreaterThan(200);
    const first = raft.log.firstInMemory;
    // What is not committed cannot be applied from anywhere yet.
    expect(first).toBe(91);
    expect(() => raft.snapshotInstalled(ready.snapshot!, first - 2)).toThrow(
      "entries not yet applied are in the window",
    );
  });

  test("continues with the entries in memory where those of the disk end", () => {
    const { raft, ready, entries } = manyWhileLoading(105);
    const first = raft.log.firstInMemory;
    expect(first).toBeGreaterThan(90);
    raft.snapshotInstalled(ready.snapshot!, first - 1);
    expect(settle(raft).committed).toEqual(entries.slice(first - 6));
    expect(raft.log.applied).toBe(105);
    expect(raft.log.windowBytes).toBeLessThanOrEqual(200);
  });

  test("is handed out after its sender's term is durable, and then with all else (R8)", () => {
    const raft = startNode({ terms: [1, 1], commit: 1, applied: 1 });
    raft.step(append({ prev: [2, 1], entries: commands(3, [1]) }));
    raft.step(install([9, 2], { leaderTerm: 7 }));
    raft.step(append({ prev: [9, 2], entries: commands(10, [7]), commit: 10 }));
    const first = raft.ready();
    expect(first).toEqual({
      snapshot: undefined,
      // Not the snapshot's index: the log on disk may have another entry there.
      hardState: { term: 7, vote: undefined, commit: 1 },
      entries: [],
      mustSync: true,
      messages: [],
      committed: [],
    });
    advance(raft, first);
    const second = raft.ready();
    expect(second.snapshot?.index).toBe(9);
    expect(second.hardState).toEqual({ term: 7, vote: undefined, commit: 10 });
    expect(second.entries).toEqual(commands(10, [7]));
    expect(second.messages).toHaveLength(2);
    advance(raft, second);
    raft.snapshotInstalled(second.snapshot!, 9);
    expect(settle(raft).committed).toEqual(commands(10, [7]));
  });

  test("waits for the next Ready when it arrives while one is outstanding", () => {
    const raft = startNode({ terms: [1, 1], commit: 2 });
    raft.step(append({ prev: [2, 1], entries: commands(3, [1, 1]) }));
    const first = raft.ready();
    expect(first.committed).toHaveLength(2);
    raft.step(install([4, 1]));
    advance(raft, first);
    expect([raft.log.applied, raft.log.commit, raft.log.persisted]).toEqual([2, 4, 4]);
    const second = raft.ready();
    expect([second.snapshot?.index, second.entries]).toEqual([4, []]);
    advance(raft, second);
    raft.snapshotInstalled(second.snapshot!, 4);
    expect(raft.log.applied).toBe(4);
  });

  test("comes one at a time", () => {
    const raft = startNode();
    raft.step(install([5, 1]));
    expect(() => raft.step(install([9, 1]))).toThrow("one snapshot is installed at a time");
  });
});

describe("a snapshot taken here", () => {
  test("trims the log up to the requested index, and the term stays answerable", () => {
    const raft = startNode({ terms: [1, 1, 2, 2], commit: 4, applied: 4 });
    expect(raft.snapshotTaken({ index: 4, term: 2 }, 3)).toBe(true);
    expect(raft.snapshot).toEqual({ index: 4, term: 2 });
    expect(raft.log.boundary).toEqual({ index: 3, term: 2 });
    expect(raft.log.last).toEqual({ index: 4, term: 2 });
  });

  test("never moves the boundary back when it finishes after a newer one was installed (R5)", () => {
    const raft = startNode({ terms: [1, 1, 1, 1], commit: 4, applied: 4 });
    raft.step(install([9, 2]));
    expect(raft.snapshotTaken({ index: 4, term: 1 }, 4)).toBe(false);
    settle(raft);
    expect(raft.snapshotTaken({ index: 4, term: 1 }, 4)).toBe(false);
    expect(raft.snapshotTaken({ index: 9, term: 2 }, 9)).toBe(false);
    expect(raft.log.boundary).toEqual({ index: 9, term: 2 });
    expect(raft.snapshot).toMatchObject({ index: 9, term: 2 });
  });

  test("must have the term of its last entry, and covers the entries that it trims", () => {
    const raft = startNode({ terms: [1, 2], commit: 2, applied: 2 });
    expect(() => raft.snapshotTaken({ index: 2, term: 1 }, 2)).toThrow("a snapshot has the term of its last entry");
    expect(() => raft.snapshotTaken({ index: 1, term: 1 }, 2)).toThrow("only what the snapshot covers is trimmed");
  });

  test("may cover entries whose Ready is outstanding, as it proves that they are applied", () => {
    const raft = startNode({ terms: [1, 1], commit: 2 });
    raft.step(append({ prev: [2, 1], entries: commands(3, [1]) }));
    const slow = raft.ready();
    expect(slow.committed).toHaveLength(2);
    expect(raft.snapshotTaken({ index: 2, term: 1 }, 2)).toBe(true);
    expect([raft.log.boundary.index, raft.log.applied]).toEqual([2, 2]);
    advance(raft, slow);
    expect(raft.log.applied).toBe(2);
  });

  test("proceeds while this node leads", () => {
    const raft = startLeader();
    for (const text of ["a", "b"]) raft.propose(new TextEncoder().encode(text));
    settle(raft);
    expect(raft.snapshotTaken({ index: 3, term: 1 }, 3)).toBe(true);
    expect(raft.propose(new TextEncoder().encode("c"))).toEqual({ accepted: { index: 4, term: 1 } });
    expect(settle(raft).committed.map((entry) => entry.index)).toEqual([4]);
  });
});

describe("a start of the core", () => {
  test("resumes with the entries that are committed and not applied yet", () => {
    const raft = startNode({ boundary: { index: 3, term: 1 }, terms: [1, 1, 1], commit: 5, applied: 4 });
    expect(settle(raft).committed).toEqual([command(5, 1)]);
  });

  test("refuses a hole between the snapshot and the first log entry (R9)", () => {
    expect(() => startNode({ boundary: { index: 3, term: 1 }, terms: [1], applied: 2 })).toThrow(
      /boundary <= applied.*boundary 3, applied 2/,
    );
  });

  test("refuses a term that is older than the log's", () => {
    expect(() => startNode({ terms: [1, 4], term: 3 })).toThrow(/term is at least.*term 3, lastTerm 4/);
  });

  test("needs a membership", () => {
    expect(() => startNode({ memberships: [] })).toThrow("a membership is given");
  });

  test("knows the membership that a snapshot brought, and the later ones (R10)", () => {
    const [at3, at6] = [
      { index: 3, members: voters("n1", "n2") },
      { index: 6, members: voters("n1", "n3") },
    ];
    const raft = startNode({ boundary: { index: 5, term: 1 }, terms: [1, 1], memberships: [at3, at6] });
    expect(raft.membershipAt(5)).toEqual(at3);
    expect(raft.membership).toEqual(at6);
    ask(raft, append({ prev: [5, 1], entries: commands(6, [2]) }));
    expect(raft.membership).toEqual(at3);
  });
});
