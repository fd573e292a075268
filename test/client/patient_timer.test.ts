import { expect, test } from "vitest";
import { afterAwake } from "../../src/client/patient_timer.js";
import { ManualClock } from "../support/conditions.js";

function started(ms: number) {
  const clock = new ManualClock();
  const fired: number[] = [];
  const cancel = afterAwake(clock, ms, () => fired.push(clock.now()));
  return { clock, fired, cancel };
}

test("a patient timer fires in time when nothing delays the process", () => {
  const { clock, fired } = started(500);
  clock.advance(499);
  expect(fired).toEqual([]);
  clock.advance(1);
  expect(fired).toEqual([500]);
  expect(clock.pending).toBe(0);
});

test("a patient timer of a delayed process waits again for as long as it was late, at most for its own duration", () => {
  const short = started(500);
  short.clock.advance(800);
  expect(short.fired).toEqual([]);
  short.clock.advance(299);
  expect(short.fired).toEqual([]);
  short.clock.advance(1);
  expect(short.fired).toEqual([1100]);

  const long = started(500);
  long.clock.advance(60_000);
  long.clock.advance(500);
  expect(long.fired).toEqual([60_500]);
});

test("a patient timer can be cancelled at any time", () => {
  const before = started(500);
  before.cancel();
  const during = started(500);
  during.clock.advance(800);
  during.cancel();
  for (const { clock, fired } of [before, during]) {
    expect(clock.pending).toBe(0);
    clock.advance(10_000);
    expect(fired).toEqual([]);
  }
});
