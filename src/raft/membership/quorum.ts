import { assert } from "../../base/assert.js";

// Counts majorities.

/** Returns the size of a majority of `voters` members. */
export function majority(voters: number): number {
  assert(voters >= 1, "a cluster has a voter", { voters });
  return Math.floor(voters / 2) + 1;
}

/**
 * Returns the highest index that a majority has reached, given the index that each voter has
 * reached.
 */
export function majorityIndex(matchIndexes: readonly number[]): number {
  const descending = [...matchIndexes].sort((a, b) => b - a);
  return descending[majority(matchIndexes.length) - 1]!;
}
