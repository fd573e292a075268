import { expect, test } from "vitest";
import { RunningExample } from "./support.js";

test("the replicated map example keeps all that it has answered when its leader or every process is killed", async () => {
  const example = await RunningExample.start("replicated-map", 20);
  for (const id of ["n1", "n2", "n3"]) await example.waitForAfter(0, new RegExp(`^${id}: ${id} is 5$`));
  const leader = await example.leader();
  const valueBefore = (id: string, until: number) =>
    Number(
      example.lines
        .slice(0, until)
        .flatMap((line) => new RegExp(`^${id}: ${id} is (\\d+)`).exec(line)?.[1] ?? [])
        .at(-1),
    );
  const killed = await example.kill(leader);
  await example.waitForAfter(killed, new RegExp(`^${leader}: before this start`));
  const found = Number(example.matches(/before this start, n\d was (\d+)/, killed).at(-1));
  // A write may have been answered and not printed.
  expect(found - valueBefore(leader, example.lines.length)).toBeLessThanOrEqual(1);
  expect(found).toBeGreaterThanOrEqual(valueBefore(leader, killed));
  const all = await example.killAll();
  for (const id of ["n1", "n2", "n3"]) {
    await example.waitForAfter(all, new RegExp(`^${id}: before this start`));
    const [was] = example.matches(new RegExp(`^${id}: before this start, ${id} was (\\d+)`), all);
    expect(Number(was)).toBeGreaterThanOrEqual(valueBefore(id, all));
  }
});
