import { describe, expect, test } from "vitest";
import { bytesInWords, matches, pick, sizeInName } from "../../bench/support/report/names.mjs";
import { median, medians } from "../../bench/support/report/statistics.mjs";
import { figure, table, withReport } from "../../bench/support/report/tables.mjs";

// The names, statistics and tables that several benchmarks share.

describe("statistics", () => {
  test("a median is in the middle, whatever the order", () => {
    expect(median([30, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([10, 9, 100])).toBe(10);
    expect(median([])).toBeNaN();
  });

  test("figures that are missing do not count", () => {
    expect(median([Number.NaN, 5, 7, 9])).toBe(7);
    const records = [{ rate: 10, firstError: "text is no figure" }, { rate: 30, p99: 2 }, { rate: 20 }];
    expect(medians(records)).toEqual({ rate: 20, p99: 2 });
  });
});

describe("names", () => {
  test("a pattern names the beginning of a row, part by part", () => {
    expect(matches("put", "put/leader/1/256B")).toBe(true);
    expect(matches("*/client/128", "get/client/128/256B")).toBe(true);
    expect(matches("put/leader/1", "put/leader/128/256B")).toBe(false);
    expect(matches("put/leader/1/256B/x", "put/leader/1/256B")).toBe(false);
  });

  test("patterns choose rows in the rows' order, and none chooses all", () => {
    const rows = [{ name: "put/1" }, { name: "put/2" }, { name: "restart" }];
    expect(pick(rows, ["restart", "*/1"])).toEqual([rows[0], rows[2]]);
    expect(pick(rows, undefined)).toEqual(rows);
  });

  test("a pattern that names nothing is an error", () => {
    expect(() => pick([{ name: "put/1" }], ["put", "putt"])).toThrow("no row is named putt");
  });

  test.each([
    [16, "16 B"],
    [256, "256 B"],
    [4096, "4 KiB"],
    [1536, "1536 B"],
    [1_048_576, "1 MiB"],
  ])("%s bytes are %s in words", (bytes, words) => {
    expect(bytesInWords(bytes)).toBe(words);
    expect(sizeInName(bytes)).toBe(words.replace(" ", ""));
  });
});

describe("tables", () => {
  test("a table is aligned", () => {
    expect(
      table(
        ["what", "n"],
        [
          ["a long one", "1"],
          ["b", "20,000"],
        ],
      ).split("\n"),
    ).toEqual([
      "| what       |      n |",
      "| ---------- | -----: |",
      "| a long one |      1 |",
      "| b          | 20,000 |",
    ]);
  });

  test.each([
    [12_345.6, "12,346"],
    [99.94, "99.9"],
    [99.97, "100"],
    [0.5, "0.50"],
    [Number.NaN, "-"],
    [undefined, "-"],
  ])("%s is printed as %s", (value, text) => expect(figure(value)).toBe(text));

  test("a report goes into a page between its own marks, in place of an earlier one", () => {
    const page = "above\n<!-- one:begin -->\nold\n<!-- one:end -->\n<!-- two:begin -->\nkept\n<!-- two:end -->\n";
    const once = withReport(page, "one", "new");
    expect(once).toBe(page.replace("\nold\n", "\n\nnew\n\n"));
    expect(withReport(once, "one", "new")).toBe(once);
    expect(() => withReport(page, "three", "new")).toThrow("three:begin");
  });
});
