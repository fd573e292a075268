import { describe, expect, test } from "vitest";
import { driftOf, fit } from "../../bench/growth/drift.mjs";
import { tablesOf } from "../../bench/growth/report.mjs";
import { callersFor, keysFor, loadsOf, rowsOf, TABLES } from "../../bench/growth/rows.mjs";
import { withReport } from "../../bench/support/report/tables.mjs";
import { limits } from "../../src/index.js";
import { readDocument } from "../support/repository/documents.js";

// The parts of the tables of growth that only compute: rows, drift and tables.

const MIB = 2 ** 20;

describe("rows", () => {
  test("each table has rows, and names are unique", () => {
    const rows = rowsOf({ keysMax: 1_000_000 });
    expect(new Set(rows.map(({ table }) => table))).toEqual(new Set(TABLES));
    expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length);
  });

  test("the bound on keys is the last row of its table", () => {
    const keysOf = (keysMax: number) => rowsOf({ keysMax, only: ["keys"] }).map(({ keys }) => keys);
    expect(keysOf(1_000_000)).toEqual([10_000, 100_000, 1_000_000]);
    expect(keysOf(10_000_000)).toEqual([10_000, 100_000, 1_000_000, 10_000_000]);
    expect(keysOf(300_000)).toEqual([10_000, 100_000, 300_000]);
    expect(keysOf(500)).toEqual([500]);
  });

  test("a table or a row is chosen by its name", () => {
    const names = (only: string[]) => rowsOf({ keysMax: 100_000, only }).map(({ name }) => name);
    expect(names(["sustain", "members/3"])).toEqual(["members/3", "sustain"]);
    expect(names(["values"])).toEqual(["values/16B", "values/256B", "values/4KiB", "values/64KiB", "values/1MiB"]);
    expect(() => names(["keys/7"])).toThrow("no row is named keys/7");
  });

  test("the values in flight fit what a client and a leader may have in flight", () => {
    for (const { valueBytes } of rowsOf({ keysMax: 1, only: ["values"] })) {
      const callers = callersFor(valueBytes!, limits);
      expect(callers).toBeGreaterThan(0);
      expect(callers * (valueBytes! + 64)).toBeLessThanOrEqual(limits.clientWriteBytesInFlight);
      expect(callers * (valueBytes! + 64)).toBeLessThan(limits.uncommittedBytes);
      expect(keysFor(valueBytes!) * valueBytes!).toBeLessThanOrEqual(256 * MIB);
    }
    expect(callersFor(64 * 1024, limits)).toBe(128);
    expect(callersFor(MIB, limits)).toBe(15);
  });

  test("unary calls come from the load generator, or else from grpc-js", () => {
    expect(loadsOf("load", 256, 128).map(({ driver }) => driver)).toEqual(["load", "cairn", "cairn"]);
    expect(loadsOf("unary", 256, 128).map(({ driver }) => driver)).toEqual(["unary", "cairn", "cairn"]);
  });
});

describe("drift", () => {
  const judge = (values: number[]) => driftOf({ memory: values }, 60)[0]!;

  test("the line through points on a line is that line", () => {
    const { slope, error } = fit([3, 5, 7, 9]);
    expect(slope).toBeCloseTo(2);
    expect(error).toBeCloseTo(0);
  });

  test("the standard error is that of the textbook", () => {
    // Residues -0.2, 0.4, -0.2 ... of the least squares through (0,1) (1,3) (2,2) (3,5).
    const { slope, error } = fit([1, 3, 2, 5]);
    expect(slope).toBeCloseTo(1.1);
    expect(error).toBeCloseTo(Math.sqrt(2.7 / 2 / 5));
  });

  test("a level that only trembles is steady", () => {
    const { drifts, change } = judge([100, 104, 98, 101, 99, 103, 100, 102, 98]);
    expect(drifts).toBe(false);
    expect(Math.abs(change)).toBeLessThan(0.1);
  });

  test("a warm-up in the first third is no drift", () => {
    expect(judge([40, 80, 100, 100, 101, 99, 100, 101, 99, 100, 100, 100]).drifts).toBe(false);
  });

  test("a steady rise is drift, with its slope an hour", () => {
    const { drifts, perHour, change, reference } = judge([100, 105, 110, 115, 120, 125, 130, 135, 140]);
    expect(drifts).toBe(true);
    expect(perHour).toBeCloseTo(5 * 60);
    expect(reference).toBeCloseTo(105);
    expect(change).toBeCloseTo(25 / 105);
  });

  test("a fall is drift, too", () => {
    expect(judge([100, 100, 100, 90, 80, 70, 60, 50, 40]).drifts).toBe(true);
  });

  test("a rise that is within twice its error is not called drift", () => {
    const { change, error, drifts } = judge([100, 100, 100, 60, 180, 50, 190, 60, 170]);
    expect(Math.abs(change)).toBeGreaterThan(0.1);
    expect(Math.abs(change)).toBeLessThan(2 * error);
    expect(drifts).toBe(false);
  });

  test("too few values give no verdict", () => {
    expect(judge([1, 2, 3, 4, 5]).drifts).toBeUndefined();
  });
});

describe("tables", () => {
  test("only the tables that were measured are printed", () => {
    expect(Object.keys(tablesOf(result([membersRow([load(1000)])])))).toEqual(["members"]);
  });

  test("figures of members are medians over the rounds", () => {
    const { members } = tablesOf(result([membersRow([load(1000)], [load(3000)], [load(1100)])]));
    expect(members).toMatch(/\| put, unary, 3 +\| +1,100 \| +1\.00 \| +2\.00 \| +80\.0 \| +40\.0 \|/);
    expect(members).toContain("The load generator in Go made the unary calls.");
  });

  test("a round that failed does not count, and is told", () => {
    const row = membersRow([load(1000)]);
    const rounds = [...row.rounds, { failed: "n1 has ended\nwith a long story" }];
    const { members } = tablesOf(result([{ ...row, rounds }]));
    expect(members).toMatch(/put, unary, 3 +\| +1,000/);
    expect(members).toContain("- members/3: not measured: n1 has ended");
    expect(members).not.toContain("long story");
  });

  test("calls that failed and a leader that changed are told", () => {
    const { members } = tablesOf(
      result([membersRow([{ ...load(1000), errors: 2, firstError: "TIMEOUT", leaderMoved: 1 }])]),
    );
    expect(members).toContain("- members/3, put, unary: 2 calls failed: TIMEOUT");
    expect(members).toContain("- members/3, put, unary: the leader changed");
  });

  test("values show bytes a second and the memory of the leader and the largest follower", () => {
    const memory = {
      leader: { anonymousPeak: 300 * MIB },
      followers: [{ anonymousPeak: 100 * MIB }, { anonymousPeak: 120 * MIB }],
    };
    const loads = [{ ...load(10), valueBytes: MIB, callers: 15 }];
    const row = { table: "values", name: "values/1MiB", valueBytes: MIB, rounds: [{ keys: 256, loads, memory }] };
    const { values } = tablesOf(result([row]));
    expect(values).toMatch(/\| put, unary, 1 MiB \| +15 \| +10\.0 \| +10\.0 \|/);
    expect(values).toMatch(/\| 1 MiB \| +256 \| +300 \| +120 \|/);
  });

  test("keys show time, memory, disk and restart", () => {
    const node = (anonymous: number) => ({ anonymousPeak: anonymous * MIB, filePeak: 2 * anonymous * MIB });
    const measured = {
      fill: { seconds: 20, rate: 5000, errors: 0, parts: [{ rate: 6000 }, { rate: 4000 }] },
      put: load(700),
      get: load(9000),
      memory: { leader: node(200), followers: [node(150), node(160)] },
      disk: { state: 30 * MIB, log: 64 * MIB, snapshots: 10 * MIB },
      snapshot: { ms: 1500 },
      restart: { ms: 2500 },
    };
    const { keys } = tablesOf(result([{ table: "keys", name: "keys/100000", keys: 100_000, rounds: [measured] }]));
    expect(cells(keys!, "100,000")).toEqual([
      ["20.0", "5,000", "4,000", "700", "2.00", "4.00", "9,000", "2.00"],
      ["200", "160", "400", "320", "30.0", "64.0", "10.0", "1.50", "2.50"],
    ]);
  });

  test("a sustained run shows each interval, and a verdict for each figure", () => {
    const node = (anonymous: number) => ({
      anonymousBytes: anonymous * MIB,
      descriptors: 30,
      diskBytes: 90 * MIB,
      snapshots: 2,
    });
    const intervals = [{ seconds: 60, ...load(500), nodes: [node(150), node(120), node(110)] }];
    const drift = driftOf(
      { "anonymous memory of the leader": Array.from({ length: 9 }, (_, at) => (at + 9) * MIB) },
      60,
    );
    const measured = { capacity: 1000, rate: 500, intervals, drift };
    const { sustain } = tablesOf(result([{ table: "sustain", name: "sustain", rounds: [measured] }]));
    expect(cells(sustain!, "1.00")).toEqual([
      ["500", "1.00", "2.00", "3.00", "0", "150, 120, 110", "30, 30, 30", "90, 90, 90", "2, 2, 2"],
    ]);
    expect(cells(sustain!, "anonymous memory of the leader")).toEqual([
      ["10.0", "14.5", "60.0", "50.0 % +- 0.00 %", "drifts"],
    ]);
  });

  test("the page of the benchmarks has the marks of each table", () => {
    for (const name of TABLES) {
      expect(withReport(readDocument("bench/README.md"), `growth-${name}`, "figures")).toContain("figures");
    }
  });
});

/** The cells behind the first one, of each line that begins with `first`. */
function cells(text: string, first: string): string[][] {
  const lines = text.split("\n").map((line) => line.split("|").map((cell) => cell.trim()));
  return lines.filter(([, cell]) => cell === first).map((line) => line.slice(2, -1));
}

function load(rate: number) {
  const cost = {
    leaderMicros: 80,
    followerMicros: 40,
    callerMicros: 20,
    leaderSent: 600,
    followerSent: 30,
    leaderWritten: 4096,
  };
  return { work: "put, unary", callers: 128, valueBytes: 256, rate, p50: 1, p99: 2, max: 3, errors: 0, ...cost };
}

function membersRow(...rounds: (ReturnType<typeof load> & { firstError?: string; leaderMoved?: number })[][]) {
  return { table: "members", name: "members/3", members: 3, rounds: rounds.map((loads) => ({ loads })) };
}

/** A result as --json writes it. */
function result(rows: ({ rounds: object[] } & Record<string, unknown>)[]) {
  const machine = { processor: "2 x CPU", memoryBytes: 2 ** 34, system: "Linux", node: "v20", fileSystem: "ext4" };
  return {
    command: "npm run bench:growth",
    at: "2026-01-02T03:04:05.000Z",
    cairn: "0.1.0",
    machine: { ...machine, syncMs: 0.07 },
    unary: "load",
    settings: { rounds: 3, seconds: 3 },
    rows,
  };
}
