import { expect, test } from "vitest";
import { RunningExample } from "./support.js";

test("the counter example counts every answered request once when its leader is killed", async () => {
  const example = await RunningExample.start("counter", 20);
  await example.waitForAfter(0, /: count/, 30);
  const leader = await example.leader();
  const lines = await example.kill(leader);
  // The killed one comes back, and counts on.
  for (const id of ["n1", "n2", "n3"]) await example.waitForAfter(lines, new RegExp(`^${id}: count`), 10);
  const counts = example.matches(/: count (\d+)/).map(Number);
  expect(new Set(counts).size).toBe(counts.length);
  // Each of the three may have one more on its way to its line, and the one that was killed had one that was never printed.
  const highest = Math.max(...counts);
  expect(highest - counts.length).toBeLessThanOrEqual(3 + 1);
  // All of them may stop: the disks have it.
  const again = await example.restart();
  await again.waitForAfter(0, /: count/, 10);
  expect(Math.min(...again.matches(/: count (\d+)/).map(Number))).toBeGreaterThan(highest);
});
