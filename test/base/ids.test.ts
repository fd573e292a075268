import { expect, test } from "vitest";
import { isId } from "../../src/base/ids.js";
import { limits } from "../../src/base/limits.js";

test.each(["n1", "a", "node-1.example_com", "0", "A".repeat(limits.idCharacters)])("a node id may be %s", (id) => {
  expect(isId(id)).toBe(true);
});

test.each([
  ["nothing", ""],
  ["more than idCharacters", "a".repeat(limits.idCharacters + 1)],
  ["another path", "../n1"],
  ["a blank", "n 1"],
  ["a line end", "n1\n"],
  ["letters beyond ASCII", "knöten"],
])("a node id may not be %s", (_, id) => {
  expect(isId(id)).toBe(false);
});
