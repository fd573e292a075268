import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Identities } from "../faults/weather.js";
import { runSimulation, type SeedResult, summarize } from "./launch.mjs";

/** Others each time. */
const FRESH_SEEDS = 15;

interface KnownSeeds {
  readonly seeds: readonly number[];
  readonly situations: readonly string[];
}

/** Few seeds that get everywhere, and what a run that says nothing would not have met. cover.mjs chooses them anew. */
const known: Readonly<Record<Identities, KnownSeeds>> = JSON.parse(
  await readFile(join(import.meta.dirname, "known_seeds.json"), "utf8"),
);

async function expectSituations({ seeds, situations }: KnownSeeds, identities: Identities): Promise<void> {
  const results = await runSimulation({ list: seeds, identities, goOn: true });
  expect(failures(results)).toEqual([]);
  const { counts } = summarize(results);
  expect(situations.filter((what) => (counts[what] ?? 0) === 0)).toEqual([]);
}

function failures(results: readonly SeedResult[]): string[] {
  return results.flatMap(({ seed, failure }) =>
    failure === undefined
      ? []
      : [`seed ${seed}: ${failure.invariant}\n${failure.text}\nsee npm run sim -- --seed ${seed} --trace`],
  );
}

test("known seeds break no invariant, and meet every kind of event", { timeout: 300_000 }, async () => {
  await expectSituations(known.given, "given");
});

test("known seeds of nodes that draw their own identity break no invariant, and meet every kind of event (T1, T2, T3, T4)", {
  timeout: 300_000,
}, async () => {
  await expectSituations(known.drawn, "drawn");
});

test(`${FRESH_SEEDS} fresh seeds break no invariant`, { timeout: 300_000 }, async () => {
  const start = 1_000_000 + (Date.now() % 1_000_000_000);
  console.log(`fresh seeds from ${start} on`);
  const results = await runSimulation({ seeds: FRESH_SEEDS, start });
  expect(failures(results)).toEqual([]);
  expect(results).toHaveLength(FRESH_SEEDS);
});

test("the run of a seed is the same to the last event when it is repeated, in one process and in two, and differs from that of another", async () => {
  const list = [3, 5, 8];
  const inOne = await runSimulation({ list: [...list, ...list], workers: 1 });
  const inTwo = await runSimulation({ list, workers: 2 });
  const hashes = (results: readonly SeedResult[]) =>
    list.map((seed) => [...new Set(results.filter((result) => result.seed === seed).map(({ hash }) => hash))]);
  expect(hashes(inOne)).toEqual(hashes(inTwo));
  for (const each of hashes(inOne)) expect(each).toHaveLength(1);
  expect(new Set(hashes(inOne).flat()).size).toBe(list.length);
});

test("a planted bug runs as it is patched, and a patch that does not fit is refused", async () => {
  const patch = { file: "src/raft/membership/quorum.ts", find: "voters / 2) + 1", replace: "voters / 2)" };
  const results = await runSimulation({ patches: [patch], seeds: 10 });
  expect(failures(results).length).toBeGreaterThan(0);
  const unfit = { ...patch, find: "nothing that is there" };
  await expect(runSimulation({ patches: [unfit], seeds: 1 })).rejects.toThrow("occurs 0 times");
});
