import { expect, test } from "vitest";
import { Bandwidth } from "../../../src/node/snapshots/bandwidth.js";
import { ManualClock, manyTurns } from "../../support/conditions.js";

const never = new AbortController().signal;

test("the bandwidth is shared by all takers in the order of their calls", async () => {
  const clock = new ManualClock();
  const bandwidth = new Bandwidth(1_000, clock);
  const granted: string[] = [];
  const take = (who: string, bytes: number) =>
    void bandwidth.take(bytes, never).then(() => granted.push(`${who} at ${clock.now()}`));
  // A tenth of a second is at hand at the beginning, and the first who asks need not wait for what it takes.
  take("a", 600);
  take("b", 1_000);
  take("a", 600);
  take("b", 1_000);
  for (let ms = 0; ms < 4_000; ms += 100) {
    await manyTurns(2);
    clock.advance(100);
  }
  expect(granted).toEqual(["a at 0", "b at 500", "a at 1500", "b at 2100"]);
  expect(clock.pending).toBe(0);
});

test("unused bandwidth is not saved up", async () => {
  const clock = new ManualClock();
  const bandwidth = new Bandwidth(1_000, clock);
  await bandwidth.take(10, never);
  clock.advance(60_000);
  await bandwidth.take(1_000, never);
  let isGranted = false;
  void bandwidth.take(1, never).then(() => {
    isGranted = true;
  });
  clock.advance(899);
  await manyTurns(2);
  expect(isGranted).toBe(false);
  clock.advance(1);
  await manyTurns(2);
  expect(isGranted).toBe(true);
});

test("a taker of bandwidth that gives up is released, and leaves no timer", async () => {
  const clock = new ManualClock();
  const bandwidth = new Bandwidth(1, clock);
  await bandwidth.take(1_000, never);
  const given = new AbortController();
  const waiting = bandwidth.take(1_000, given.signal);
  expect(clock.pending).toBe(1);
  given.abort();
  await waiting;
  expect(clock.pending).toBe(0);
  await bandwidth.take(1_000, given.signal);
  expect(clock.pending).toBe(0);
});
