import { expect, test } from "vitest";
import { runSimulation } from "./launch.mjs";
import { mutations } from "./mutations.js";

/** Within so many seeds each bug is found. Most are by the first, because the search begins at one that has found it before. */
const SEEDS = 30;

test("there are twenty bugs or more, each with a name of its own", () => {
  expect(new Set(mutations.map(({ name }) => name)).size).toBe(mutations.length);
  expect(mutations.length).toBeGreaterThanOrEqual(20);
});

test.each(mutations)(
  "the simulator finds: $name ($rule)",
  async ({ patches, seed = 1, identities = "given" as const }) => {
    const results = await runSimulation({ patches, identities, start: seed, seeds: SEEDS, workers: 1 });
    const failed = results.find(({ failure }) => failure !== undefined);
    expect(failed?.failure?.invariant, `in seeds ${seed} to ${seed + SEEDS - 1}`).toBeDefined();
  },
);
