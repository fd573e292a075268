import { expect, test } from "vitest";
import { checkExample } from "./counters.js";
import { RunningExample } from "./support.js";

test("the counter example counts every answered request once when its leader is killed", async () => {
  const example = await RunningExample.start("counter", 20);
  const highest = await checkExample(example);
  // All of them may stop: the disks have it.
  const again = await example.restart();
  await again.waitForAfter(0, /: count/, 10);
  expect(Math.min(...again.matches(/: count (\d+)/).map(Number))).toBeGreaterThan(highest);
});
