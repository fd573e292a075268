import { expect, test } from "vitest";
import { logHappening } from "../../src/node/measures/happening_log.js";
import type { NodeHappening } from "../../src/node/measures/happenings.js";
import { silentLogger } from "../../src/system/logger.js";

test("elections and changes of the members are lines of the log; what has a line of its own is not told twice", () => {
  const lines: [object, string][] = [];
  const logger = { ...silentLogger, info: (facts: object, message: string) => void lines.push([facts, message]) };
  const happened: NodeHappening[] = [
    { kind: "membership", index: 0, members: [] },
    { kind: "leader", leader: "n2", term: 7, role: "follower" },
    { kind: "leader", leader: "", term: 7, role: "pre-candidate" },
    { kind: "membership", index: 3, members: ["n1", "n2 (learner)"] },
    { kind: "snapshot", index: 3, reason: "size", durationMs: 1, fileBytes: 1 },
    { kind: "warning", text: "the disk is full" },
  ];
  for (const each of happened) logHappening(logger, { ...each, number: 1, unixMs: 1 });
  expect(lines).toEqual([
    [{ leader: "n2", term: 7, role: "follower" }, "another leader is known"],
    [{ leader: "", term: 7, role: "pre-candidate" }, "no leader is known"],
    [{ index: 3, members: ["n1", "n2 (learner)"] }, "a membership is in force"],
  ]);
});
