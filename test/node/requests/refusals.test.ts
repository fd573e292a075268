import { expect, test } from "vitest";
import { type RefusingNode, refusal } from "../../../src/node/requests/refusals.js";

const founded = { index: 1, members: [{ id: "n1", address: "n1:1", role: "voter" }] } as const;

const reasons: readonly (readonly [string, Partial<RefusingNode>, string])[] = [
  ["names the leader", { leader: "n2" }, "the leader is n2"],
  ["says that it knows of no leader", {}, "no leader is known"],
  ["says that it is new", { membership: { index: 0, members: [] } }, "it is new, and waits for its cluster"],
  ["says that it was removed", { removedAt: 7 }, "it was removed from the cluster at index 7"],
  ["says that it has lost data", { lost: { acknowledged: 9, has: 3 } }, "it has lost data that it acknowledged"],
];

test.each(reasons)("a node that does not lead, asked for a write, %s", (_, facts, text) => {
  const node = { leader: undefined, lost: undefined, removedAt: undefined, membership: founded, ...facts };
  const error = refusal("not_leader", "n1", node);
  expect(error).toMatchObject({ code: "NOT_LEADER", leaderHint: facts.leader });
  expect(error.message).toContain(`node n1 is not the leader: ${text}`);
});
