import { describe, expect, test } from "vitest";
import type { StoreRules } from "../../src/store/rules/rules.js";
import { type LevelShape, movesTable, startingSweeps, stopsSweep } from "../../src/store/rules/v1_sweeps.js";
import { Random } from "../support/random.js";
import { LevelsModel } from "./sweeps_model.js";

const rules = {
  ...{ version: 1, flushBytes: 100, fanOut: 6, baseRuns: 4, sweepFlushes: 8 },
  ...{
    pageBytes: 10,
    blockBytesMin: 20,
    blockBytesMax: 40,
    blockBits: 2,
    tableBytesMin: 100,
    tableBytesMax: 200,
    tableBits: 1,
  },
  seeds: [1, 2],
} satisfies StoreRules;

const level = (runs: number, records: number, isSwept = false): LevelShape => ({ runs, records, isSwept });

describe("a sweep starts", () => {
  test("from a level with six runs into the next one", () => {
    expect(startingSweeps(rules, [level(5, 500), level(1, 600)], 10_000, false)).toEqual([]);
    const started = startingSweeps(rules, [level(7, 700), level(1, 600)], 10_000, false);
    expect(started).toEqual([{ level: 0, inputs: 6, toBase: false }]);
  });

  test("from the oldest level into the base when all levels hold half of its records", () => {
    expect(startingSweeps(rules, [level(2, 300), level(4, 699)], 2_000, false)).toEqual([]);
    const started = startingSweeps(rules, [level(2, 300), level(4, 700)], 2_000, false);
    expect(started).toEqual([{ level: 1, inputs: 4, toBase: true }]);
    expect(startingSweeps(rules, [level(2, 300), level(3, 7_000)], 2_000, false)).toEqual([]);
  });

  test("once a level, and several at a time", () => {
    expect(startingSweeps(rules, [level(9, 900, true)], 0, true)).toEqual([]);
    expect(startingSweeps(rules, [level(6, 600), level(6, 3_600), level(0, 0)], 1_000, false)).toEqual([
      { level: 0, inputs: 6, toBase: false },
      { level: 1, inputs: 6, toBase: true },
    ]);
  });

  test("from the oldest level in any case when the store is drained", () => {
    expect(startingSweeps(rules, [level(1, 1), level(0, 0)], 1_000_000, true)).toEqual([
      { level: 0, inputs: 1, toBase: true },
    ]);
    expect(startingSweeps(rules, [level(1, 1), level(1, 5)], 1_000_000, true)).toEqual([
      { level: 1, inputs: 1, toBase: true },
    ]);
  });
});

test("sweeps stop between tables behind the quota, and at the latest a table's size later", () => {
  expect(stopsSweep(rules, 799, true)).toBe(false);
  expect(stopsSweep(rules, 800, true)).toBe(true);
  expect(stopsSweep(rules, 899, false)).toBe(false);
  expect(stopsSweep(rules, 900, false)).toBe(true);
});

test("a table is taken over unless it is small, dead, or brings deletes to the base", () => {
  const table = { bytes: 50, deletes: 0, mayHoldDead: false };
  expect(movesTable(rules, table, true)).toBe(true);
  expect(movesTable(rules, { ...table, deletes: 1 }, false)).toBe(true);
  expect(movesTable(rules, { ...table, deletes: 1 }, true)).toBe(false);
  expect(movesTable(rules, { ...table, bytes: 49 }, true)).toBe(false);
  expect(movesTable(rules, { ...table, mayHoldDead: true }, false)).toBe(false);
});

describe("under the rules alone", () => {
  /** Writes random keys of so many flushes' worth, until the state has been written four times. */
  function overwrite(flushes: number) {
    const random = new Random(flushes);
    const keys = flushes * rules.flushBytes;
    const model = new LevelsModel(rules);
    const figures = { puts: 0, runs: 0, space: 0, spaces: [] as number[], read: 0 };
    const live = new Set<number>();
    while (figures.puts < 6 * keys) {
      const table = new Set<number>();
      while (table.size < rules.flushBytes) {
        const key = random.whole(0, keys - 1);
        table.add(key);
        live.add(key);
        figures.puts += 1;
      }
      model.step(table);
      figures.runs = Math.max(figures.runs, model.runs);
      figures.read = Math.max(figures.read, model.read);
      if (figures.puts > 2 * keys) figures.spaces.push(model.records / live.size);
    }
    figures.space = figures.spaces.reduce((sum, each) => sum + each, 0) / figures.spaces.length;
    return { ...figures, peak: Math.max(...figures.spaces), amplification: model.written / figures.puts };
  }

  test.each([
    { flushes: 4, amplification: 1.8, space: 1.5, peak: 2, runs: 5 },
    { flushes: 190, amplification: 4.2, space: 1.6, peak: 2, runs: 16 },
  ])("a state of $flushes flushes stays within its figures", (most) => {
    const { amplification, space, peak, runs, read } = overwrite(most.flushes);
    expect(amplification).toBeLessThan(most.amplification);
    expect(space).toBeLessThan(most.space);
    expect(peak).toBeLessThan(most.peak);
    expect(runs).toBeLessThanOrEqual(most.runs);
    expect(read).toBeLessThanOrEqual((rules.sweepFlushes + 1) * rules.flushBytes + rules.fanOut);
  });

  test("a state of new keys alone is written five times at most", () => {
    const model = new LevelsModel(rules);
    const random = new Random(3);
    const keys = Array.from({ length: 300 * rules.flushBytes }, (_, key) => key);
    for (let at = keys.length - 1; at > 0; at--) {
      const other = random.whole(0, at);
      [keys[at], keys[other]] = [keys[other]!, keys[at]!];
    }
    for (let at = 0; at < keys.length; at += rules.flushBytes)
      model.step(new Set(keys.slice(at, at + rules.flushBytes)));
    expect(model.written / keys.length).toBeLessThan(5);
  });
});
