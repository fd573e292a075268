import { expect, test } from "vitest";
import { RunningExample } from "./support.js";

test("the job queue example runs every job once when the leader is killed, and reports an abandoned job as interrupted", async () => {
  const example = await RunningExample.start("job-queue", 20);
  await example.waitForAfter(0, /: run/, 10);
  await example.kill(await example.leader());
  await example.waitForAfter(0, /: nothing to do: (60 done, 0|59 done, 1) interrupted/);
  const runs = example.matches(/: run (job-\d+)/);
  expect(new Set(runs).size).toBe(runs.length);
  const interrupted = example.matches(/: nothing to do: 59 done, (1) interrupted/).length > 0;
  // It may have been given a job, and killed before it ran it.
  expect(runs.length).toBeGreaterThanOrEqual(interrupted ? 59 : 60);
});
