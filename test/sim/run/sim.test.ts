import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { runs } from "../../support/run/tries_all.js";
import type { Identities } from "../faults/weather.js";
import { runSimulation, type SeedResult, Simulator, summarize } from "./launch.mjs";

/** Others each time. `npm run sim` tries as many as one likes. */
const FRESH_SEEDS = runs(6, 15);

/** How many of the known seeds are repeated: those with the fewest events. */
const REPEATED_SEEDS = 3;

interface KnownSeeds {
  readonly seeds: readonly number[];
  readonly situations: readonly string[];
}

/** Few seeds that get everywhere, and what a run that says nothing would not have met. cover.mjs chooses them anew. */
const known: Readonly<Record<Identities, KnownSeeds>> = JSON.parse(
  await readFile(join(import.meta.dirname, "known_seeds.json"), "utf8"),
);

/** Two processes, for all tests that patch nothing. */
let simulator: Simulator;

beforeAll(async () => {
  simulator = await Simulator.open();
  return () => simulator.close();
});

/** Each run of known seeds is made once. */
const ran = new Map<Identities, Promise<SeedResult[]>>();

function runKnown(identities: Identities): Promise<SeedResult[]> {
  const results = ran.get(identities) ?? simulator.run({ list: known[identities].seeds, identities, goOn: true });
  ran.set(identities, results);
  return results;
}

async function expectSituations(identities: Identities): Promise<void> {
  const results = await runKnown(identities);
  expect(failures(results)).toEqual([]);
  const { counts } = summarize(results);
  expect(known[identities].situations.filter((what) => (counts[what] ?? 0) === 0)).toEqual([]);
}

function failures(results: readonly SeedResult[]): string[] {
  return results.flatMap(({ seed, failure }) =>
    failure === undefined
      ? []
      : [`seed ${seed}: ${failure.invariant}\n${failure.text}\nsee npm run sim -- --seed ${seed} --trace`],
  );
}

test("known seeds break no invariant, and meet every kind of event", { timeout: 300_000 }, async () => {
  await expectSituations("given");
});

test("known seeds of nodes that draw their own identity break no invariant, and meet every kind of event (T1, T2, T3, T4)", {
  timeout: 300_000,
}, async () => {
  await expectSituations("drawn");
});

test(`${FRESH_SEEDS} fresh seeds break no invariant`, { timeout: 300_000 }, async () => {
  const start = 1_000_000 + (Date.now() % 1_000_000_000);
  console.log(`fresh seeds from ${start} on`);
  const results = await simulator.run({ seeds: FRESH_SEEDS, start });
  expect(failures(results)).toEqual([]);
  expect(results).toHaveLength(FRESH_SEEDS);
});

test("the run of a seed is the same to the last event when it is repeated, in one process and in another, and differs from that of another", {
  timeout: 300_000,
}, async () => {
  const first = [...(await runKnown("given"))].sort((a, b) => a.events - b.events).slice(0, REPEATED_SEEDS);
  const list = first.map(({ seed }) => seed);
  const again = await runSimulation({ list: [...list, ...list], identities: "given", workers: 1 });
  expect(again).toHaveLength(2 * list.length);
  for (const { seed, hash } of again) expect(hash, `seed ${seed}`).toBe(first.find((one) => one.seed === seed)!.hash);
  expect(new Set(first.map(({ hash }) => hash)).size).toBe(list.length);
});

test("a planted bug runs as it is patched, and a patch that does not fit is refused", async () => {
  const patch = { file: "src/raft/membership/quorum.ts", find: "voters / 2) + 1", replace: "voters / 2)" };
  const results = await runSimulation({ patches: [patch], seeds: 10, workers: 1 });
  expect(failures(results).length).toBeGreaterThan(0);
  const unfit = { ...patch, find: "nothing that is there" };
  await expect(runSimulation({ patches: [unfit], seeds: 1 })).rejects.toThrow("occurs 0 times");
});
