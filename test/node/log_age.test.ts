import { describe, expect, test } from "vitest";
import { LogAge } from "../../src/node/measures/log_age.js";

function aged(lastIndex: number, fileUnixMs?: () => number | undefined) {
  const clock = { ms: 1_000_000 };
  return { clock, age: new LogAge(() => clock.ms, lastIndex, fileUnixMs ?? (() => undefined)) };
}

describe("the age of the log's oldest entry", () => {
  test("is that of the second in which it was appended, however the log is trimmed", () => {
    const { clock, age } = aged(0);
    for (let second = 1; second <= 60; second++) {
      clock.ms += 1_000;
      age.note(second * 10);
    }
    expect(age.ofOldest(1, 600)).toBe(59_000);
    expect(age.ofOldest(10, 600)).toBe(59_000);
    expect(age.ofOldest(11, 600)).toBe(58_000);
    expect(age.ofOldest(600, 600)).toBe(0);
    clock.ms += 5_000;
    age.note(600);
    expect(age.ofOldest(600, 600)).toBe(5_000);
  });

  test("is unknown while the log is empty, and 0 for an entry that was appended just now", () => {
    const { age } = aged(0);
    expect(age.ofOldest(1, 0)).toBeUndefined();
    expect(age.ofOldest(1, 5)).toBe(0);
  });

  test("counts from the last change of its file for an entry from before the start, else from the start", () => {
    let fileUnixMs: number | undefined = 400_000;
    const { clock, age } = aged(100, () => fileUnixMs);
    expect(age.ofOldest(50, 100)).toBe(600_000);
    clock.ms += 1_000;
    age.note(110);
    expect(age.ofOldest(100, 110)).toBe(601_000);
    expect(age.ofOldest(101, 110)).toBe(0);
    fileUnixMs = undefined;
    expect(age.ofOldest(50, 110)).toBe(1_000);
    // A clock that was set back.
    fileUnixMs = clock.ms + 5_000;
    expect(age.ofOldest(50, 110)).toBe(0);
  });

  test("is that of the entry in place of others that were cut off", () => {
    const { clock, age } = aged(0);
    clock.ms += 1_000;
    age.note(10);
    clock.ms += 10_000;
    age.note(5);
    clock.ms += 1_000;
    age.note(12);
    expect(age.ofOldest(6, 12)).toBe(0);
    expect(age.ofOldest(1, 12)).toBe(11_000);
  });

  test("is known after days of appends, within a part of it, in bounded memory", () => {
    const { clock, age } = aged(0);
    const seconds = 100_000;
    for (let second = 1; second <= seconds; second++) {
      clock.ms += 1_000;
      age.note(second);
    }
    const found = age.ofOldest(1_000, seconds)!;
    const real = (seconds - 1_000) * 1_000;
    expect(found).toBeLessThanOrEqual(real);
    expect(found).toBeGreaterThan(real * 0.95);
  });
});
