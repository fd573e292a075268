import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "vitest";
import { triesAll } from "../../support/run/tries_all.js";
import { runSimulation } from "../run/launch.mjs";
import { readSeeds } from "../run/plant.mjs";
import { plantedBugs } from "./planted_bugs.js";

/** Within so many seeds each bug is found. Most are by the first, because the search begins at one that has found it before. */
const SEEDS = 30;

/** A run tries one bug in so many, others each time; `npm run plant` tries all of them. */
const ONE_IN = triesAll ? 5 : 20;

const kept = await readSeeds();
const turn = Math.floor(Date.now() / 1000) % ONE_IN;
const tried = plantedBugs.filter((_, at) => at % ONE_IN === turn);
console.log(`tries ${tried.length} of ${plantedBugs.length} planted bugs; npm run plant tries all`);

test("the list of planted bugs has twenty or more, each with a name of its own", () => {
  expect(new Set(plantedBugs.map(({ name }) => name)).size).toBe(plantedBugs.length);
  expect(plantedBugs.length).toBeGreaterThanOrEqual(20);
});

test("each planted bug has a seed, and no seed is kept for a bug that is gone", () => {
  expect(Object.keys(kept).sort()).toEqual(plantedBugs.map(({ name }) => name).sort());
});

test("each patch fits the code, once", () => {
  const root = resolve(import.meta.dirname, "../../..");
  const misfits = plantedBugs.flatMap(({ name, patches }) => {
    return patches.flatMap(({ file, find }) => {
      const times = readFileSync(resolve(root, file), "utf8").split(find).length - 1;
      return times === 1 ? [] : [`${name}: ${times} times in ${file}`];
    });
  });
  expect(misfits).toEqual([]);
});

test.for(tried)(
  "the simulator finds: $name ($rule)",
  async ({ name, patches, identities = "given" as const, state = "memory" as const, isRare }, { skip }) => {
    const seed = kept[name] ?? 1;
    const seeds = isRare ? 1 : SEEDS;
    const results = await runSimulation({ patches, identities, state, start: seed, seeds, workers: 1 });
    const failed = results.find(({ failure }) => failure !== undefined);
    if (results[0]?.failure === undefined) {
      const stale = `seed ${seed} does not find "${name}" any more: npm run plant looks for one that does`;
      console.warn(stale);
      skip(isRare === true, stale);
    }
    expect(
      failed?.failure?.invariant,
      `in seeds ${seed} to ${seed + seeds - 1}; npm run plant looks further`,
    ).toBeDefined();
  },
);
