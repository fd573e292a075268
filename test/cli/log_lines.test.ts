import { describe, expect, test } from "vitest";
import { CairnError } from "../../src/base/errors.js";
import { prettyLine, shownFacts } from "../../src/cli/output/log_lines.js";
import type { LogFacts } from "../../src/system/log_fields.js";

function pretty(facts: LogFacts, message = "lost the connection to a peer"): string {
  return prettyLine({ level: "warn", unixMs: Date.UTC(2026, 10, 29, 5), facts: shownFacts(facts), message }, false);
}

describe("a line for people", () => {
  test("has time, level, node, message and the fields by name", () => {
    const facts = { node: "n1", peer: "n2", address: "10.0.0.2:7101", times: 3, reason: "it is gone", via: undefined };
    expect(pretty(facts)).toBe(
      '2026-11-29T05:00:00.000Z WARN  n1 lost the connection to a peer peer=n2 address=10.0.0.2:7101 times=3 reason="it is gone"',
    );
    expect(pretty({ members: ["n1", "n2 (learner)"] })).toContain('members=n1,"n2 (learner)"');
  });

  test("is one line, whatever texts and stacks it shows", () => {
    const err = new CairnError("INTERNAL", "first\nsecond", { cause: new Error("why") });
    const line = pretty({ err, reason: "a\r\nb\u2028c\u0085d" }, "e\nf\u001b[0m");
    expect(line).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
    expect(line).toContain("e\\nf\\u001b[0m");
    expect(line).toContain('reason="a\\r\\nb\\u2028c\\u0085d"');
    expect(line).toMatch(/err=".*\[INTERNAL\] first\\nsecond < .*log_lines\.test\.ts/);
  });

  test("shows the level in colour on a terminal that has colours", () => {
    const line = prettyLine({ level: "error", unixMs: 0, facts: {}, message: "m" }, true);
    expect(line).toBe("1970-01-01T00:00:00.000Z \u001b[31mERROR\u001b[0m m");
  });
});

describe("the facts of a line", () => {
  test("have of an error only its type, code, text, stack and causes", () => {
    const headers = { authorization: "Bearer abc" };
    const cause = Object.assign(new Error("inner", { cause: "innermost" }), { code: "ECONNRESET", headers });
    const err = Object.assign(new CairnError("UNREACHABLE", "outer", { cause }), { metadata: headers });
    expect(shownFacts({ err })).toEqual({
      err: {
        type: "CairnError",
        code: "UNREACHABLE",
        message: "[UNREACHABLE] outer",
        stack: expect.stringContaining("outer"),
        cause: {
          type: "Error",
          code: "ECONNRESET",
          message: "inner",
          stack: expect.stringContaining("inner"),
          cause: "innermost",
        },
      },
    });
    expect(shownFacts({ err: "a text" })).toEqual({ err: "a text" });
  });

  test("end a chain of causes that never ends", () => {
    const err = new Error("round");
    err.cause = err;
    expect(JSON.stringify(shownFacts({ err }))).toMatch(/round/);
  });

  test.each([
    ["a header with a token", "got authorization: Bearer s3cret.token~+/== there"],
    ["a header with a password", "Basic s3cret=="],
    ["a token that Cairn made", `no caller has cairn_s3cret${"x".repeat(37)}`],
    ["a private key", "bad PEM: -----BEGIN EC PRIVATE KEY-----\ns3cret\n-----END EC PRIVATE KEY----- at 1"],
    ["a private key that is cut", "-----BEGIN PRIVATE KEY-----\ns3cret"],
  ])("hide %s in every text", (_what, text) => {
    const shown = JSON.stringify(shownFacts({ reason: text, peers: [text], err: new Error(text) }));
    expect(shown).not.toContain("s3cret");
    expect(shown.match(/\[credentials\]/g)!.length).toBeGreaterThanOrEqual(3);
  });
});
