import { expect, test } from "vitest";
import type { SimulationOptions } from "./launch.mjs";
import { findSeed } from "./plant.mjs";

const bug = { patches: [] };
const { signal } = new AbortController();

/** A simulator in which some seeds fail, after so many events. Remembers each run and its limit. */
function simulator(failing: Readonly<Record<number, number>>) {
  const run: { readonly seed: number; readonly mostEvents: number | undefined }[] = [];
  const simulate = async ({ list, mostEvents, onResult, signal: end }: SimulationOptions) => {
    for (const seed of list!) {
      if (end!.aborted) break;
      const most = mostEvents!();
      run.push({ seed, mostEvents: most });
      const fails = failing[seed] !== undefined && failing[seed] < (most ?? Number.POSITIVE_INFINITY);
      const events = fails ? failing[seed]! : (most ?? 20_000);
      const failure = { invariant: "broken", text: "", lastLines: [] };
      onResult!({ seed, events, hash: "", simulatedMs: 0, counts: {}, cpuMs: 0, ...(fails && { failure }) });
    }
    return [];
  };
  return { run, simulate };
}

const to = (last: number) => Array.from({ length: last }, (_, at) => at + 1);

test("the search for a seed keeps the one with the fewest events, and ends each run that cannot improve on it", async () => {
  const { run, simulate } = simulator({ 3: 5_000, 5: 9_000, 6: 2_000, 7: 3_000 });
  expect(await findSeed(bug, { list: to(100), signal, simulate })).toEqual({ seed: 6, events: 2_000, tried: 11 });
  expect(run.slice(0, 7).map(({ mostEvents }) => mostEvents)).toEqual([...Array(3), 5_000, 5_000, 5_000, 2_000]);
  expect(run).toHaveLength(11);
});

test("the search for a seed ends at a seed that finds the bug soon enough", async () => {
  const { run, simulate } = simulator({ 2: 300, 3: 100 });
  expect(await findSeed(bug, { list: to(100), signal, simulate })).toEqual({ seed: 2, events: 300, tried: 2 });
  expect(run).toHaveLength(2);
});

test("the search for a seed finds none when its runs are too short for a late failure", async () => {
  const { run, simulate } = simulator({ 2: 3_000 });
  expect(await findSeed(bug, { list: to(4), mostEvents: 2_000, signal, simulate })).toEqual({ tried: 4 });
  expect(run.map(({ mostEvents }) => mostEvents)).toEqual([2_000, 2_000, 2_000, 2_000]);
});
