import { expect, test } from "vitest";
import { limits } from "../../../src/base/limits.js";
import { AccessAudit } from "../../../src/server/access/audit.js";
import { ManualClock } from "../../support/conditions.js";

test("a flood of refusals leaves a bounded number of lines, and their count", () => {
  const lines: Readonly<Record<string, unknown>>[] = [];
  const log = (facts: object) => void lines.push({ ...facts });
  const clock = new ManualClock();
  const audit = new AccessAudit({ debug: log, info: log, warn: log, error: log }, clock);
  const refuse = (caller: string, port: number) =>
    audit.refused({ caller, from: `10.0.0.1:${port}`, method: "/s/M" }, "PERMISSION_DENIED", "a role");
  // The same caller from one host, over many connections.
  for (let port = 1; port <= 10_000; port++) refuse("alice", port);
  expect(lines).toEqual([
    {
      audit: "refused",
      caller: "alice",
      address: "10.0.0.1:1",
      method: "/s/M",
      code: "PERMISSION_DENIED",
      missing: "a role",
    },
  ]);
  for (let at = 0; at < 10_000; at++) refuse(`c${at}`, 1);
  expect(lines).toHaveLength(limits.auditRefusals);
  clock.advance(limits.auditWindowMs);
  const told = lines.slice(limits.auditRefusals);
  expect(told).toEqual([
    expect.objectContaining({ caller: "alice", repeats: 9_999 }),
    { audit: "refused", limit: "auditRefusals", times: 10_000 - (limits.auditRefusals - 1) },
  ]);
  // The next window begins anew, and nothing is left to tell when it was quiet.
  refuse("alice", 1);
  expect(lines).toHaveLength(limits.auditRefusals + 3);
  audit.close();
  expect([lines.length, clock.pending]).toEqual([limits.auditRefusals + 3, 0]);
});
