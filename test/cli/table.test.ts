import { describe, expect, test } from "vitest";
import { table } from "../../src/cli/output/table.js";

const HEAD = ["ID", "ADDRESS", "HEALTH"];
const ROWS = [
  ["n1", "10.0.0.1:7101", "healthy"],
  ["n2", "a-very-long-name-of-a-machine.example.org:7101", "slow disk"],
];

describe("a table", () => {
  test("is whole in a pipe, however long its lines are", () => {
    const lines = table(HEAD, ROWS, undefined).split("\n");
    expect(lines[2]).toBe("n2  a-very-long-name-of-a-machine.example.org:7101  slow disk");
    expect(lines[1]).toBe(`n1  10.0.0.1:7101${" ".repeat(35)}healthy`);
  });

  test("fits a terminal: its widest column is cut with an ellipsis, and no other", () => {
    const lines = table(HEAD, ROWS, 40).split("\n");
    expect(Math.max(...lines.map((line) => line.length))).toBe(40);
    expect(lines[2]).toBe("n2  a-very-long-name-of-a-ma…  slow disk");
    expect(lines[1]).toContain("10.0.0.1:7101");
    expect(table(HEAD, ROWS, 200)).toBe(table(HEAD, ROWS, undefined));
  });

  test("continues below, with its first column again, on a terminal that is too narrow for all", () => {
    expect(table(HEAD, ROWS, 22).split("\n")).toEqual([
      "ID  ADDRESS",
      "n1  10.0.0.1:7101",
      "n2  a-very-long-name-…",
      "",
      "ID  HEALTH",
      "n1  healthy",
      "n2  slow disk",
    ]);
  });

  test.each([40, 80])("never has a line that is longer than a terminal of %d columns", (columns) => {
    const head = ["ID", "ADDRESS", "MEMBER", "ROLE", "TERM", "COMMIT", "APPLIED", "LOG", "SNAPSHOT", "SHA-256"];
    const row = ["n1", "10.0.0.1:7101", "voter", "follower", "12", "1234567", "1234567", "1..1234567", "1200000"];
    const lines = table(head, [[...row, "ab".repeat(32)]], columns).split("\n");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
    for (const title of head) expect(lines.join("\n"), title).toContain(title);
    expect(lines.join("\n")).toContain("1234567");
  });
});
