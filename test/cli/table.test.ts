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

  test("keeps a few characters of each column on a terminal that is too narrow for all", () => {
    const lines = table(HEAD, ROWS, 10).split("\n");
    expect(lines).toEqual(["ID  ADDRE…  HEALTH", "n1  10.0.…  healt…", "n2  a-ver…  slow …"]);
  });
});
