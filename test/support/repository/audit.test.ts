import { expect, test } from "vitest";
import { judge } from "./audit.mjs";

const none = { info: 0, low: 0, moderate: 0, high: 0, critical: 0, total: 0 };

function report(severity: string, fixAvailable = true): string {
  const via = [{ title: "Memory grows without bound", url: "https://example.test/advisory" }];
  const vulnerabilities = { left: { name: "left", severity, range: "<2", via, fixAvailable } };
  return JSON.stringify({ vulnerabilities, metadata: { vulnerabilities: { ...none, [severity]: 1 } } });
}

test("the audit fails for a high or critical vulnerability, and names it", () => {
  for (const severity of ["high", "critical"]) {
    const { isFailed, lines } = judge(report(severity));
    expect(isFailed).toBe(true);
    const said = `${severity}: left <2: Memory grows without bound (https://example.test/advisory); a fix is available`;
    expect(lines[0]).toBe(said);
  }
});

test("the audit names a lower vulnerability, and passes", () => {
  const { isFailed, lines } = judge(report("moderate", false));
  expect([isFailed, lines.length]).toEqual([false, 2]);
  expect(lines[0]).toContain("no fix is available");
  expect(judge(JSON.stringify({ vulnerabilities: {}, metadata: { vulnerabilities: none } }))).toEqual({
    isFailed: false,
    lines: ["no high or critical vulnerability in the packages that Cairn runs on"],
  });
});

test.each([
  ["has no list of vulnerabilities", JSON.stringify({ message: "405 Method Not Allowed", error: {} }), "405 Method"],
  ["cannot be reached", JSON.stringify({ error: { summary: "request failed, reason: ECONNREFUSED" } }), "ECONNREFUSED"],
  ["answers nonsense", "<html>\n", "<html>"],
  ["answers nothing", "", "npm printed nothing"],
])("the audit passes with the reason when the registry %s", (_, output, reason) => {
  const { isFailed, lines } = judge(output);
  expect(isFailed).toBe(false);
  expect(lines).toEqual([expect.stringContaining(reason)]);
});
