import { describe, expect, test } from "vitest";
import { report } from "../../bench/compare/report.mjs";
import { cellKey, type RowOptions, rowsOf } from "../../bench/compare/rows.mjs";
import { summarize } from "../../bench/compare/statistics.mjs";
import { withReport } from "../../bench/support/report/tables.mjs";
import { readDocument } from "../support/repository/documents.js";

// The parts of the comparison with etcd that only compute: its rows, statistics and tables.

const full: RowOptions = { callers: [1, 128], values: [256, 4096], rates: [500] };

describe("statistics", () => {
  test("the ratio is the median of the pairs' ratios, not the ratio of the medians", () => {
    const rounds = [
      { etcd: { rate: 100 }, cairn: { rate: 50 } },
      { etcd: { rate: 200 }, cairn: { rate: 300 } },
      { etcd: { rate: 400 }, cairn: { rate: 320 } },
    ];
    expect(summarize(rounds)).toEqual({ etcd: { rate: 200 }, cairn: { rate: 300 }, ratio: { rate: 0.8 } });
  });

  test("a round in which one system failed counts for the other, and for no ratio", () => {
    const { etcd, cairn, ratio } = summarize([
      { etcd: { rate: 100 }, cairn: undefined },
      { etcd: { rate: 300 }, cairn: { rate: 150, firstError: "text is no figure" } },
    ]);
    expect([etcd, cairn, ratio]).toEqual([{ rate: 200 }, { rate: 150 }, { rate: 0.5 }]);
  });

  test("without etcd there are no ratios", () => {
    expect(summarize([{ cairn: { rate: 5 } }])).toEqual({ etcd: undefined, cairn: { rate: 5 }, ratio: {} });
  });
});

describe("rows", () => {
  test("names are unique", () => {
    for (const options of [full, { ...full, quick: true }]) {
      const names = rowsOf(options).map(({ name }) => name);
      expect(new Set(names).size).toBe(names.length);
    }
  });

  test("the full run has every operation through every route, for all callers and values", () => {
    const names = rowsOf(full).map(({ name }) => name);
    const routes = ["put/leader", "put/all", "put/client", "get/leader", "get/all", "get/client"];
    for (const route of [...routes, "stale/all", "stale/client", "mixed/leader", "mixed/all", "mixed/client"]) {
      for (const rest of ["1/256B", "128/256B", "1/4KiB", "128/4KiB"]) expect(names).toContain(`${route}/${rest}`);
    }
    for (const name of ["put/node/128/256B", "put/open/500/256B", "snapshot", "return", "restart"]) {
      expect(names).toContain(name);
    }
  });

  test("the quick run is one page", () => {
    const names = rowsOf({ ...full, quick: true }).map(({ name }) => name);
    expect(names).toHaveLength(16);
    expect(names).toEqual(expect.arrayContaining(["put/leader/1", "stale/client/128", "get/node/128", "restart"]));
  });

  test("both sides of a row do the same work", () => {
    for (const { kind, etcd, cairn } of rowsOf(full)) {
      if (kind === "life") continue;
      const work = ({ op, callers, valueBytes, rate }: NonNullable<typeof etcd>) => [op, callers, valueBytes, rate];
      expect(work(cairn!)).toEqual(work(etcd!));
    }
  });

  test("cells that differ have different keys, and rows that can share a cell do", () => {
    const cells = rowsOf(full).flatMap(({ etcd }) => (etcd === undefined ? [] : [etcd]));
    const distinct = new Set(cells.map((cell) => JSON.stringify(Object.entries(cell).sort())));
    expect(new Set(cells.map(cellKey)).size).toBe(distinct.size);
    expect(distinct.size).toBeLessThan(cells.length);
  });

  test("patterns choose rows", () => {
    const only = ["restart", "*/node/1"];
    const names = rowsOf({ ...full, only }).map(({ name }) => name);
    expect(names).toEqual(["put", "get", "stale", "mixed"].map((op) => `${op}/node/1/256B`).concat("restart"));
  });
});

describe("report", () => {
  test("says what was measured, and what failed", () => {
    const text = report(
      result({ version: "3.7.3" }, [
        { etcd: load(1000), cairn: load(800) },
        { etcd: load(1200), cairn: { failed: "n1 has ended\nwith a long story" } },
      ]),
    );
    expect(text).toContain("etcd 3.7.3");
    expect(text).toMatch(/\| put, 128 callers, 256 B \| +1,100 \| +800 \| +0\.80 \|/);
    expect(text).toContain("- put/leader/128/256B, Cairn: not measured: n1 has ended\n".trimEnd());
    expect(text).not.toContain("long story");
  });

  test("says so when there is no etcd", () => {
    const text = report(result({ missing: "this machine has no Go" }, [{ cairn: load(800) }]));
    expect(text).toContain("etcd not measured (this machine has no Go)");
    expect(text).toMatch(/\| put, 128 callers, 256 B \| +- \| +800 \| +- \|/);
  });

  test("the page of the benchmarks has the marks", () => {
    expect(withReport(readDocument("bench/README.md"), "compare", "figures")).toContain("figures");
  });
});

function load(rate: number) {
  return { rate, p50: 1, p99: 2, max: 3, serverMicros: 100, callerMicros: 10, errors: 0, unsent: 0 };
}

/** A result of one row, as --json prints it. */
function result(etcd: object, rounds: { etcd?: object; cairn: ReturnType<typeof load> | { failed: string } }[]) {
  const [row] = rowsOf({ ...full, only: ["put/leader/128/256B"] });
  const good = (figures: object | undefined) =>
    figures !== undefined && "rate" in figures ? load(figures.rate as number) : undefined;
  const summary = summarize(rounds.map(({ etcd, cairn }) => ({ etcd: good(etcd), cairn: good(cairn) })));
  const machine = {
    processor: "2 x CPU",
    memoryBytes: 2 ** 34,
    system: "Linux",
    node: "v20",
    fileSystem: "ext4",
    syncMs: 0.07,
  };
  return {
    command: "npm run bench:compare",
    at: "2026-01-02T03:04:05.000Z",
    cairn: "0.1.0",
    machine,
    sources: { etcd },
    settings: { rounds: rounds.length, seconds: 3 },
    rows: [{ ...row, rounds, summary }],
    processes: [],
  };
}
