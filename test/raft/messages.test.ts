import { describe, expect, test } from "vitest";
import { wellFormed } from "../../src/raft/messages.js";
import { append, command, commands, startNode } from "../support/nodes/core.js";

describe("the check of messages that no correct peer sends", () => {
  test("accepts a well-formed AppendEntries", () => {
    expect(wellFormed(append({ entries: commands(1, [1, 1, 2]) }))).toEqual({ allowed: true });
    expect(wellFormed(append({ prev: [4, 2], entries: commands(5, [2, 3]), term: 3 }))).toEqual({ allowed: true });
    expect(wellFormed(append({ prev: [4, 2] }))).toEqual({ allowed: true });
  });

  test.each([
    ["a leader's term of 0", append({ term: 0 }), "term must be above 0"],
    ["prev at index 0 with a term", append({ prev: [0, 1], term: 1 }), "must both be 0 or both be above 0"],
    ["prev with an index and no term", append({ prev: [1, 0], term: 1 }), "must both be 0 or both be above 0"],
    ["a gap behind prev", append({ prev: [3, 1], entries: [command(5, 1)] }), "entry index 5 does not follow 3"],
    ["a gap between entries", append({ entries: [command(1, 1), command(3, 1)] }), "entry index 3 does not follow 1"],
    ["a repeated entry", append({ entries: [command(1, 1), command(1, 1)] }), "entry index 1 does not follow 1"],
    [
      "a term below prev's",
      append({ prev: [3, 2], entries: [command(4, 1)], term: 2 }),
      "is below the term 2 before it",
    ],
    ["terms that fall", append({ entries: commands(1, [2, 1]), term: 2 }), "term 1 of entry 2 is below the term 2"],
    ["an entry without a term", append({ entries: [command(1, 0)], term: 1 }), "term of entry 1 must be above 0"],
    [
      "an entry above the leader's term",
      append({ entries: commands(1, [1, 3]), term: 2 }),
      "above the leader's term 2",
    ],
    ["a prev above the leader's term", append({ prev: [1, 3], term: 2 }), "above the leader's term 2"],
  ])("names %s", (_, message, text) => {
    expect(wellFormed(message)).toEqual({ refused: expect.stringContaining(text) });
    expect(() => startNode().step(message)).toThrow("AppendEntries is well-formed");
  });
});
