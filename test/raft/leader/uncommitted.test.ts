import { expect, test } from "vitest";
import { Uncommitted } from "../../../src/raft/leader/uncommitted.js";
import { ENTRY_OVERHEAD_BYTES, entryBytes } from "../../../src/raft/types.js";
import { command } from "../../support/nodes/core.js";

/** Data that fills an entry to so many bytes. */
const dataFor = (bytes: number) => bytes - ENTRY_OVERHEAD_BYTES;

test("an empty queue of proposals takes any entry", () => {
  expect(new Uncommitted(100).isFull(10_000)).toBe(false);
});

test("an entry is refused when it does not fit with the queued ones", () => {
  const uncommitted = new Uncommitted(100);
  uncommitted.add(1, 60);
  expect(uncommitted.isFull(dataFor(40))).toBe(false);
  expect(uncommitted.isFull(dataFor(41))).toBe(true);
});

test("a queued entry is counted as everywhere else: its data and an allowance", () => {
  const entry = command(1, 1, "four");
  expect(entryBytes(entry)).toBe(4 + ENTRY_OVERHEAD_BYTES);
  const uncommitted = new Uncommitted(2 * entryBytes(entry));
  uncommitted.add(1, entryBytes(entry));
  expect(uncommitted.isFull(entry.data.byteLength)).toBe(false);
  expect(uncommitted.isFull(entry.data.byteLength + 1)).toBe(true);
});

test("committed entries make room in the queue, and so do those before them", () => {
  const uncommitted = new Uncommitted(100);
  for (const index of [4, 5, 6]) uncommitted.add(index, 33);
  expect(uncommitted.isFull(dataFor(34))).toBe(true);
  uncommitted.committed(5);
  expect(uncommitted.isFull(dataFor(67))).toBe(false);
  expect(uncommitted.isFull(dataFor(68))).toBe(true);
  uncommitted.committed(6);
  expect(uncommitted.isFull(5000)).toBe(false);
});

test("entries that were committed before make no room in the queue", () => {
  const uncommitted = new Uncommitted(100);
  uncommitted.add(4, 100);
  uncommitted.committed(3);
  expect(uncommitted.isFull(0)).toBe(true);
});
