import { describe, expect, test } from "vitest";
import { assert, assertCount, InvariantViolation } from "../../src/base/assert.js";

test("an invariant that holds throws nothing", () => {
  expect(() => assert(true, "never said", { fact: 1 })).not.toThrow();
});

test("a broken invariant names itself and the facts that were seen", () => {
  const facts = { commit: 3, last: undefined, members: [{ id: "n1" }] };
  const broken = () => assert(false, "commit <= last", facts);
  expect(broken).toThrow(InvariantViolation);
  expect(broken).toThrow('broken invariant: commit <= last (commit 3, last undefined, members [{"id":"n1"}])');
  expect(() => assert(false, "nothing to add")).toThrow("broken invariant: nothing to add ()");
});

test("the facts of a broken invariant can be read", () => {
  expect(new InvariantViolation("x", { term: 4 })).toMatchObject({ name: "InvariantViolation", facts: { term: 4 } });
});

describe("a log index or term", () => {
  test.each([0, 1, Number.MAX_SAFE_INTEGER])("may be %d", (value) => {
    expect(() => assertCount(value, "index")).not.toThrow();
  });

  test.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER + 1])("may not be %d", (value) => {
    expect(() => assertCount(value, "index")).toThrow(`index is a whole number from 0 to 2^53 - 1 (index ${value})`);
  });
});
