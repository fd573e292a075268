import { describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import { RaftLog } from "../../src/raft/log.js";
import { type Entry, entryBytes } from "../../src/raft/types.js";
import { command, commands, logStart } from "../support/nodes/core.js";

function logOf(setup: Parameters<typeof logStart>[0] = {}): RaftLog {
  return new RaftLog(logStart(setup));
}

/** Appends entries and reports them durable. */
function appendDurably(log: RaftLog, entries: readonly Entry[]): void {
  for (const entry of entries) log.append(entry);
  log.takeUnpersisted();
  log.persistedTo(log.last.index);
}

const indexesOf = (entries: readonly Entry[]) => entries.map((entry) => entry.index);

describe("a log at its start", () => {
  test("knows the term of every entry and of the boundary, and retains entries that are not applied", () => {
    const log = logOf({ boundary: { index: 4, term: 2 }, terms: [2, 3, 3], commit: 6, applied: 5 });
    expect([3, 4, 5, 6, 7, 8].map((index) => log.termAt(index))).toEqual([undefined, 2, 2, 3, 3, undefined]);
    expect(log.last).toEqual({ index: 7, term: 3 });
    expect(log.persisted).toBe(7);
    expect(log.hasUnpersisted).toBe(false);
    expect(indexesOf(log.takeUnapplied())).toEqual([6]);
  });

  test("may have ranges that begin below the boundary, and only its end in memory", () => {
    const log = new RaftLog({
      boundary: { index: 4, term: 2 },
      ranges: [
        { firstIndex: 1, term: 1 },
        { firstIndex: 3, term: 2 },
        { firstIndex: 6, term: 3 },
      ],
      lastIndex: 9,
      tail: commands(8, [3, 3]),
      commit: 8,
      applied: 7,
    });
    expect([4, 5, 6, 9].map((index) => log.termAt(index))).toEqual([2, 2, 3, 3]);
    expect(indexesOf(log.takeUnapplied())).toEqual([8]);
  });

  test("refuses to start with a hole between the snapshot and the first entry, and names the two numbers (R9)", () => {
    const start = logStart({ boundary: { index: 10, term: 1 }, terms: [1, 1] });
    const hole = { ...start, boundary: { index: 5, term: 1 }, commit: 5, applied: 5 };
    expect(() => new RaftLog(hole)).toThrow(/hole .*boundary 5, firstIndex 11/);
  });

  test.each([
    ["the ranges end before the last entry", { lastIndex: 2, ranges: [] }, "the ranges reach to the last entry"],
    ["something is applied that is not committed", { applied: 2, commit: 1 }, "boundary <= applied <= commit <= last"],
    ["something is committed that is not there", { commit: 4 }, "boundary <= applied <= commit <= last"],
    [
      "an entry that is not applied is missing",
      { tail: commands(3, [1]) },
      "entries not yet applied are in the window",
    ],
    ["the tail ends early", { tail: commands(1, [1, 1]) }, "the tail reaches to the last entry"],
    ["the tail has a gap", { tail: [command(1, 1), command(3, 1)] }, "the tail's entries are consecutive"],
  ])("refuses to start when %s", (_, wrong, text) => {
    const start = logStart({ terms: [1, 1, 1], commit: 1 });
    expect(() => new RaftLog({ ...start, ...wrong })).toThrow(text);
  });
});

describe("the part of the log to be written", () => {
  test("is handed out once, and counts as durable when that is reported", () => {
    const log = logOf();
    for (const entry of commands(1, [1, 1])) log.append(entry);
    expect(indexesOf(log.takeUnpersisted())).toEqual([1, 2]);
    expect(log.hasUnpersisted).toBe(false);
    expect(log.takeUnpersisted()).toEqual([]);
    expect(log.persisted).toBe(0);
    log.append(command(3, 1));
    expect(indexesOf(log.takeUnpersisted())).toEqual([3]);
    log.persistedTo(2);
    expect(log.persisted).toBe(2);
  });

  test("is handed out again where it was replaced while it was being written", () => {
    const log = logOf();
    for (const entry of commands(1, [1, 1, 1])) log.append(entry);
    log.takeUnpersisted();
    log.truncateAfter(1);
    log.append(command(2, 2));
    log.persistedTo(3);
    expect(log.persisted).toBe(1);
    expect(log.takeUnpersisted()).toEqual([command(2, 2)]);
    log.persistedTo(2);
    expect(log.persisted).toBe(2);
  });

  test("does not count as durable when it was replaced and came back, until it is written again", () => {
    const log = logOf();
    for (const entry of commands(1, [1, 1, 1])) log.append(entry);
    log.takeUnpersisted();
    log.truncateAfter(1);
    log.append(command(2, 2));
    log.truncateAfter(1);
    for (const entry of commands(2, [1, 1, 3])) log.append(entry);
    log.persistedTo(3);
    log.commitTo(3);
    expect(log.persisted).toBe(1);
    expect(indexesOf(log.takeUnapplied())).toEqual([1]);
    expect(indexesOf(log.takeUnpersisted())).toEqual([2, 3, 4]);
  });
});

describe("the part of the log to be applied", () => {
  test("is committed and durable, and handed out once", () => {
    const log = logOf();
    for (const entry of commands(1, [1, 1, 1])) log.append(entry);
    log.commitTo(2);
    expect(log.hasUnapplied).toBe(false);
    expect(log.takeUnapplied()).toEqual([]);
    log.takeUnpersisted();
    log.persistedTo(1);
    expect(indexesOf(log.takeUnapplied())).toEqual([1]);
    log.persistedTo(3);
    expect(log.hasUnapplied).toBe(true);
    expect(indexesOf(log.takeUnapplied())).toEqual([2]);
    expect(log.takeUnapplied()).toEqual([]);
    expect(log.applied).toBe(0);
    log.appliedTo(2);
    expect(log.applied).toBe(2);
  });

  test("comes in batches of at most applyEntries", () => {
    const count = limits.applyEntries * 2 + 1;
    const log = logOf({ terms: Array<number>(count).fill(1), commit: count });
    const batches = [log.takeUnapplied(), log.takeUnapplied(), log.takeUnapplied()];
    expect(batches.map((batch) => batch.length)).toEqual([limits.applyEntries, limits.applyEntries, 1]);
    expect(indexesOf(batches.flat())).toEqual(Array.from({ length: count }, (_, at) => at + 1));
  });

  test("comes in batches of at most applyBytes, or of one entry that is larger", () => {
    const log = logOf();
    const data = new Uint8Array(limits.applyBytes / 2);
    const large = new Uint8Array(limits.entryBytes);
    appendDurably(
      log,
      [data, data, large, data].map((each, at) => ({ index: at + 1, term: 1, type: "command", data: each })),
    );
    log.commitTo(4);
    const batches = [1, 2, 3, 4].map(() => indexesOf(log.takeUnapplied()));
    expect(batches).toEqual([[1], [2], [3], [4]]);
    const exact = logOf();
    const half = new Uint8Array(limits.applyBytes / 2 - entryBytes({ ...command(1, 1), data: new Uint8Array() }));
    appendDurably(
      exact,
      [1, 2, 3].map((index) => ({ index, term: 1, type: "command", data: half })),
    );
    exact.commitTo(3);
    expect([1, 2].map(() => indexesOf(exact.takeUnapplied()))).toEqual([[1, 2], [3]]);
  });

  test("ends at a committed entry, and applied never falls", () => {
    const log = logOf({ terms: [1, 1], commit: 1, applied: 1 });
    expect(() => log.appliedTo(2)).toThrow("applied moves up, to committed entries only");
    expect(() => log.appliedTo(0)).toThrow("applied moves up, to committed entries only");
  });
});

describe("the log's commit index and truncation", () => {
  test("never lower the commit index, and never raise it past the last entry", () => {
    const log = logOf({ terms: [1, 1], commit: 1 });
    log.commitTo(0);
    expect(log.commit).toBe(1);
    expect(() => log.commitTo(3)).toThrow("only entries of the log are committed");
  });

  test("never remove committed entries (Raft section 5.3)", () => {
    const log = logOf({ terms: [1, 1], commit: 1 });
    expect(() => log.truncateAfter(0)).toThrow("committed entries are never removed");
    log.truncateAfter(1);
    expect(log.last).toEqual({ index: 1, term: 1 });
    expect(log.persisted).toBe(1);
  });
});

describe("a log with a snapshot", () => {
  test("answers for the term at the boundary after trimming (R6)", () => {
    const log = logOf({ terms: [1, 2, 2], commit: 3, applied: 3 });
    log.trimTo(2);
    expect(log.boundary).toEqual({ index: 2, term: 2 });
    expect(log.termAt(2)).toBe(2);
    log.trimTo(3);
    expect(log.last).toEqual({ index: 3, term: 2 });
    expect(log.termAt(3)).toBe(2);
  });

  test("never moves its boundary back", () => {
    const log = logOf({ terms: [1, 1, 1], commit: 3, applied: 3 });
    log.trimTo(2);
    log.trimTo(1);
    expect(log.boundary.index).toBe(2);
  });

  test("trims only applied entries", () => {
    const log = logOf({ terms: [1, 1, 1], commit: 3, applied: 1 });
    expect(() => log.trimTo(2)).toThrow("only applied entries are trimmed");
  });

  test("keeps the suffix when the snapshot's index has the same term, and it is written and applied as ever (R4)", () => {
    const log = logOf({ terms: [1, 1], commit: 1, applied: 1 });
    for (const entry of commands(3, [2, 2, 2])) log.append(entry);
    log.restoreTo({ index: 4, term: 2 });
    expect(log.boundary).toEqual({ index: 4, term: 2 });
    expect(log.last).toEqual({ index: 5, term: 2 });
    expect([log.commit, log.applied, log.persisted]).toEqual([4, 1, 4]);
    expect(indexesOf(log.takeUnpersisted())).toEqual([5]);
    log.persistedTo(5);
    log.appliedTo(4);
    log.commitTo(5);
    expect(indexesOf(log.takeUnapplied())).toEqual([5]);
  });

  test("drops everything when the snapshot's index has a different term (R4)", () => {
    const log = logOf({ terms: [1, 1, 1, 1], commit: 1, applied: 1 });
    log.restoreTo({ index: 3, term: 2 });
    expect(log.boundary).toEqual({ index: 3, term: 2 });
    expect(log.last).toEqual({ index: 3, term: 2 });
    expect(log.persisted).toBe(3);
    expect(log.windowBytes).toBe(0);
    log.append(command(4, 2));
    expect(log.takeUnpersisted()).toEqual([command(4, 2)]);
  });

  test("is replaced as a whole by a snapshot beyond its end (R4)", () => {
    const log = logOf({ terms: [1, 1], commit: 1, applied: 1 });
    log.restoreTo({ index: 9, term: 1 });
    expect(log.boundary).toEqual({ index: 9, term: 1 });
    expect(log.last).toEqual({ index: 9, term: 1 });
    expect(log.hasUnpersisted).toBe(false);
  });

  test("does not count entries as durable that were being written when it was dropped", () => {
    const log = logOf();
    for (const entry of commands(1, [1, 1, 1, 1])) log.append(entry);
    log.takeUnpersisted();
    log.restoreTo({ index: 2, term: 2 });
    for (const entry of commands(3, [2, 2])) log.append(entry);
    log.persistedTo(4);
    expect(log.persisted).toBe(2);
    expect(log.takeUnpersisted()).toEqual(commands(3, [2, 2]));
  });

  test("asserts that no snapshot at or below the commit index reaches it (R3)", () => {
    const log = logOf({ terms: [1, 1], commit: 2 });
    expect(() => log.restoreTo({ index: 2, term: 1 })).toThrow("at or below the commit index is ignored");
  });
});

describe("the window of entries in memory", () => {
  const data = new Uint8Array(1024 * 1024);
  const megabytes = (first: number, last: number) =>
    Array.from({ length: last - first + 1 }, (_, at): Entry => ({ index: first + at, term: 1, type: "command", data }));

  /** Everything that is to be applied, batch by batch. */
  function takeAll(log: RaftLog): Entry[] {
    const entries: Entry[] = [];
    while (log.hasUnapplied) entries.push(...log.takeUnapplied());
    return entries;
  }

  test("never drops entries that are not applied", () => {
    const log = logOf();
    appendDurably(log, megabytes(1, 20));
    expect(log.windowBytes).toBeGreaterThan(20 * data.byteLength);
    log.commitTo(20);
    expect(indexesOf(takeAll(log))).toEqual(indexesOf(megabytes(1, 20)));
  });

  test("never drops entries that are not durable, even when they are applied elsewhere", () => {
    const log = logOf();
    for (const entry of megabytes(1, 20)) log.append(entry);
    log.commitTo(20);
    expect(indexesOf(log.takeUnpersisted())).toEqual(indexesOf(megabytes(1, 20)));
    log.persistedTo(5);
    expect(indexesOf(takeAll(log))).toEqual([1, 2, 3, 4, 5]);
    log.appliedTo(5);
    expect(log.windowBytes).toBeGreaterThanOrEqual(15 * data.byteLength);
    log.persistedTo(20);
    expect(indexesOf(takeAll(log))).toEqual(indexesOf(megabytes(6, 20)));
  });

  test("drops the oldest of the others down to half of windowBytes, and remembers their terms", () => {
    const log = logOf();
    appendDurably(log, megabytes(1, 20));
    log.commitTo(20);
    takeAll(log);
    log.appliedTo(20);
    expect(log.windowBytes).toBeLessThanOrEqual(limits.windowBytes / 2);
    expect(log.windowBytes).toBeGreaterThan(0);
    expect(log.termAt(1)).toBe(1);
    log.append(command(21, 1));
    expect(log.takeUnpersisted()).toEqual([command(21, 1)]);
  });

  test("keeps recent entries while they are within windowBytes", () => {
    const log = logOf();
    appendDurably(log, megabytes(1, 7));
    log.commitTo(7);
    takeAll(log);
    log.appliedTo(7);
    expect(log.windowBytes).toBeGreaterThan(7 * data.byteLength);
    log.trimTo(7);
    expect(log.windowBytes).toBe(0);
  });

  test("no longer counts truncated entries, even when it begins above the cut", () => {
    const log = logOf();
    appendDurably(log, megabytes(1, 20));
    log.commitTo(12);
    takeAll(log);
    log.appliedTo(12);
    log.truncateAfter(12);
    log.append(command(13, 2));
    expect(log.windowBytes).toBeLessThanOrEqual(limits.windowBytes);
    expect(log.takeUnpersisted()).toEqual([command(13, 2)]);
  });
});
