import fc from "fast-check";
import { expect, test } from "vitest";
import { majority, majorityIndex } from "../../../src/raft/membership/quorum.js";

test("more than half of the voters make a majority", () => {
  expect([1, 2, 3, 4, 5, 6, 7].map(majority)).toEqual([1, 2, 2, 3, 3, 4, 4]);
});

test("a cluster without voters has no majority", () => {
  expect(() => majority(0)).toThrow("a cluster has a voter");
  expect(() => majorityIndex([])).toThrow("a cluster has a voter");
});

test("the quorum index is the highest that a majority has reached", () => {
  expect(majorityIndex([7])).toBe(7);
  expect(majorityIndex([7, 3])).toBe(3);
  expect(majorityIndex([1, 9, 5])).toBe(5);
  expect(majorityIndex([4, 1, 9, 5])).toBe(4);
  fc.assert(
    fc.property(fc.array(fc.nat(20), { minLength: 1, maxLength: 9 }), (indexes) => {
      const unchanged = [...indexes];
      const reached = majorityIndex(indexes);
      const at = (index: number) => indexes.filter((each) => each >= index).length;
      expect(at(reached)).toBeGreaterThanOrEqual(majority(indexes.length));
      expect(at(reached + 1)).toBeLessThan(majority(indexes.length));
      expect(indexes).toEqual(unchanged);
    }),
  );
});
