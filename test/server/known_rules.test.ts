import { expect, test } from "vitest";
import { sessionRules } from "../../src/machine/kv/session_limits.js";
import { assertRulesKnown, type RulesNode } from "../../src/server/kv/known_rules.js";
import { failure } from "../support/conditions.js";

const GRANT = { operation: { case: "leaseGrant", value: { ttlMs: 1_000 } } } as const;
const PUT = { operation: { case: "put", value: { key: Buffer.from("k"), value: Buffer.from("v") } } } as const;

function leader(rulesInForce: number, told: Readonly<Record<string, number>>): RulesNode {
  const machine = { newestRules: sessionRules.leased, rulesInForce } as RulesNode["machine"];
  return { machine, rulesOfMembers: new Map(Object.entries(told)) };
}

const check = async (node: RulesNode, command: Parameters<typeof assertRulesKnown>[1]) =>
  assertRulesKnown(node, command);

test.each([
  ["tells older rules", 3],
  ["does not tell, as versions before leases", 0],
])("a command with rules that a member does not know is refused while the member %s", async (_, told) => {
  const node = leader(sessionRules.wide, { n2: sessionRules.leased, n3: told });
  await failure(
    "FAILED_PRECONDITION",
    check(node, GRANT),
    "n3 runs a version of Cairn that knows version 3 of the rules",
  );
  await check(node, PUT);
});

test("rules that all members know, or that are in force already, are no reason to refuse", async () => {
  await check(leader(sessionRules.wide, { n2: sessionRules.leased, n3: sessionRules.leased }), GRANT);
  await check(leader(sessionRules.leased, { n2: sessionRules.leased, n3: 0 }), GRANT);
  // A member that this leader has not heard holds nobody up.
  await check(leader(sessionRules.wide, {}), GRANT);
  expect(sessionRules.leased).toBe(4);
});
