import { expect, test } from "vitest";
import { RunningExample } from "./support.js";

test("the cron example runs each tick once in the fleet when the leader is killed, and when two members believe that they lead", async () => {
  const example = await RunningExample.start("cron", 100);
  await example.waitForAfter(0, /: tick/, 10);
  const killed = await example.kill(await example.leader());
  await example.waitForAfter(killed, /: tick/, 10);
  // A leader that stood still while the others elected another one proposes a tick before it learns of that.
  const old = await example.leader();
  const paused = example.signal(old, "SIGSTOP");
  await example.waitForAfter(paused, /: tick/, 10);
  const resumed = example.signal(old, "SIGCONT");
  await example.waitForAfter(resumed, new RegExp(`^${old}: (?!${old})n\\d leads`));
  await example.waitForAfter(resumed, /: tick/, 10);
  const ticks = example.matches(/: tick (\d+)/);
  expect(ticks.length).toBeGreaterThanOrEqual(40);
  expect(new Set(ticks).size).toBe(ticks.length);
});
