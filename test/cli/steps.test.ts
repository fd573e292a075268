import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { endStep, progressOn, stepOn } from "../../src/cli/output/progress.js";

describe("a step of a command on a terminal", () => {
  const written: string[] = [];
  const stream = { isTTY: true, write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;

  beforeEach(() => {
    written.length = 0;
    vi.useFakeTimers();
  });
  afterEach(() => {
    endStep();
    vi.useRealTimers();
  });

  test("is shown once it takes longer than a second, with its time, and leaves no trace", () => {
    const end = stepOn(stream, "waiting for the cluster");
    vi.advanceTimersByTime(900);
    expect(written).toEqual([]);
    vi.advanceTimersByTime(1_200);
    expect(written).toEqual(["\rwaiting for the cluster: 1 s\x1b[K", "\rwaiting for the cluster: 2 s\x1b[K"]);
    end();
    expect(written.at(-1)).toBe("\r\x1b[K");
    const count = written.length;
    vi.advanceTimersByTime(5_000);
    end();
    expect(written).toHaveLength(count);
  });

  test("gives way to other output, and to the next step", () => {
    stepOn(stream, "first");
    vi.advanceTimersByTime(1_000);
    endStep();
    expect(written.at(-1)).toBe("\r\x1b[K");
    const end = stepOn(stream, "second");
    stepOn(stream, "third");
    vi.advanceTimersByTime(1_000);
    expect(written.filter((text) => text.includes("second"))).toEqual([]);
    // The end of a step that is over ends no other.
    end();
    vi.advanceTimersByTime(1_000);
    expect(written.at(-1)).toBe("\rthird: 2 s\x1b[K");
  });

  test("gives way to a progress that has a measure", () => {
    stepOn(stream, "reading");
    progressOn(stream).update(1, 2);
    const count = written.length;
    vi.advanceTimersByTime(5_000);
    expect(written).toHaveLength(count);
  });

  test("is not shown in a pipe", () => {
    const end = stepOn({ ...stream, isTTY: false } as unknown as NodeJS.WriteStream, "waiting");
    vi.advanceTimersByTime(5_000);
    end();
    expect(written).toEqual([]);
  });
});
