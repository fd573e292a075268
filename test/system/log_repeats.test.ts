import { beforeEach, describe, expect, test } from "vitest";
import { limits } from "../../src/base/limits.js";
import type { LogFacts } from "../../src/system/log_fields.js";
import { limitRepeats, type RepeatLimitedLogger } from "../../src/system/log_repeats.js";
import type { Logger } from "../../src/system/logger.js";
import { ManualClock } from "../support/conditions.js";

interface Line {
  readonly level: keyof Logger;
  readonly facts: LogFacts;
  readonly message: string;
}

let lines: Line[];
let clock: ManualClock;
let logger: RepeatLimitedLogger;

beforeEach(() => {
  lines = [];
  clock = new ManualClock();
  const method = (level: keyof Logger) => (facts: LogFacts, message: string) =>
    void lines.push({ level, facts, message });
  const inner = { debug: method("debug"), info: method("info"), warn: method("warn"), error: method("error") };
  logger = limitRepeats(inner, clock);
});

const messages = () => lines.map(({ message }) => message);

describe("repeats of an event in the log", () => {
  test("are written up to the limit, then counted in one line with number and span at the window's end", () => {
    for (let at = 1; at <= 20; at++) {
      logger.warn({ peer: "n2", reason: "refused", durationMs: at }, "lost");
      clock.advance(1_000);
    }
    expect(messages()).toEqual(Array(limits.logRepeats).fill("lost"));
    clock.advance(limits.logRepeatMs - 20_001);
    expect(lines).toHaveLength(limits.logRepeats);
    clock.advance(1);
    expect(lines.slice(limits.logRepeats)).toEqual([
      {
        level: "warn",
        facts: { peer: "n2", reason: "refused", durationMs: 20, repeats: 15, spanMs: 14_000 },
        message: "lost: repeated 15 times in 14 s",
      },
    ]);
    expect(clock.pending).toBe(0);
  });

  test("have a new window after the end of one, so that a lasting event stays visible", () => {
    for (let at = 0; at < 3 * limits.logRepeatMs; at += 1_000) {
      logger.error({}, "stuck");
      clock.advance(1_000);
    }
    logger.flush();
    expect(messages().filter((text) => text === "stuck")).toHaveLength(3 * limits.logRepeats);
    expect(messages().filter((text) => text.includes("repeated 55 times"))).toHaveLength(3);
  });

  test("are told of at once when the process ends", () => {
    for (let at = 0; at <= limits.logRepeats; at++) logger.info({}, "again");
    logger.flush();
    expect(messages().at(-1)).toBe("again: repeated 1 time in 0 s");
    logger.flush();
    expect(lines).toHaveLength(limits.logRepeats + 1);
    expect(clock.pending).toBe(0);
  });

  test("are told of once, by whichever of two layers is the inner one", () => {
    expect(limitRepeats(logger, clock)).toBe(logger);
  });
});

describe("no repeat of another event", () => {
  test("is one that differs in the level, the message, or a field that identifies", () => {
    const events: [keyof Logger, LogFacts, string][] = [
      ["warn", { peer: "n2", reason: "a" }, "lost"],
      ["error", { peer: "n2", reason: "a" }, "lost"],
      ["warn", { peer: "n3", reason: "a" }, "lost"],
      ["warn", { peer: "n2", reason: "b" }, "lost"],
      ["warn", { peer: "n2", reason: "a" }, "found"],
      ["warn", { err: new Error("a") }, "lost"],
      ["warn", { err: new Error("b") }, "lost"],
    ];
    for (let at = 0; at < limits.logRepeats; at++) for (const [level, ...line] of events) logger[level](...line);
    expect(lines).toHaveLength(events.length * limits.logRepeats);
  });

  test("is a line of the audit", () => {
    for (let at = 0; at < 100; at++) logger.info({ audit: "admin", caller: "ops" }, "an admin call has ended");
    expect(lines).toHaveLength(100);
  });

  test("is any of more different events than are remembered, and what was counted is not lost", () => {
    for (let at = 0; at < limits.logRepeats + 3; at++) logger.warn({ reason: "first" }, "x");
    for (let at = 0; at < limits.logEvents; at++) logger.warn({ reason: `r${at}` }, "x");
    expect(messages().filter((text) => text.startsWith("x: repeated 3 times"))).toHaveLength(1);
    expect(lines).toHaveLength(limits.logRepeats + 1 + limits.logEvents);
  });
});
