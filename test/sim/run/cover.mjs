// Chooses the known seeds of sim.test.ts: `node test/sim/run/cover.mjs --help`.
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runSimulation } from "./launch.mjs";

const FILE = join(import.meta.dirname, "known_seeds.json");

/** A change of the code moves a run's course, so each situation is met by this many seeds, where enough meet it. */
const TIMES = 2;

const USAGE = `node test/sim/run/cover.mjs [options]

Runs seeds, and chooses few of them that meet every situation of test/sim/run/known_seeds.json, each
one in ${TIMES} seeds where it can. Writes their numbers to that file. Exits with 1 when no seed meets a situation.

  --only I       given or drawn: only the seeds of nodes that come by their identity so
  --seeds N      how many seeds to run (default 150)
  --start S      the first of them (default 1)
`;

/** How much the length of a run counts against it. Which is best differs: all are tried. */
const WEIGHTS = [0.5, 0.75, 1];

/**
 * Returns seeds that together meet each situation as often as they can, up to TIMES, in few events. `runs`: seed, length in events and
 * situations of each.
 */
export function chooseSeeds(runs, situations) {
  const events = (chosen) => chosen.reduce((sum, run) => sum + run.events, 0);
  const [best] = WEIGHTS.map((weight) => withoutSpare(choose(runs, situations, weight), runs, situations)).sort(
    (one, other) => events(one) - events(other),
  );
  return {
    seeds: best.map(({ seed }) => seed).sort((one, other) => one - other),
    missing: situations.filter((name) => timesMet(best, name) === 0),
  };
}

function timesMet(runs, name) {
  return runs.filter(({ met }) => met.includes(name)).length;
}

/** Takes the run that is worth most, again and again, until each situation is met as often as it can be, up to TIMES. */
function choose(runs, situations, weight) {
  const lacking = new Map(situations.map((name) => [name, TIMES]));
  const rarity = new Map(situations.map((name) => [name, 1 / timesMet(runs, name)]));
  const chosen = [];
  for (;;) {
    // A seed counts more for a situation that few others meet, and less when its run is long.
    const worth = ({ met, events }) =>
      met.filter((name) => lacking.get(name) > 0).reduce((sum, name) => sum + rarity.get(name), 0) / events ** weight;
    const left = runs.filter((run) => !chosen.includes(run));
    const best = left.reduce(
      (one, other) => (one !== undefined && worth(one) >= worth(other) ? one : other),
      undefined,
    );
    if (best === undefined || worth(best) === 0) return chosen;
    chosen.push(best);
    for (const name of best.met) lacking.set(name, (lacking.get(name) ?? 0) - 1);
  }
}

/** Leaves out those that the others make superfluous, the longest first. */
function withoutSpare(chosen, runs, situations) {
  const wanted = new Map(situations.map((name) => [name, Math.min(TIMES, timesMet(runs, name))]));
  const longestFirst = chosen.toSorted((one, other) => other.events - one.events);
  return longestFirst.reduce((kept, run) => {
    const others = kept.filter((each) => each !== run);
    return run.met.every((name) => timesMet(others, name) >= wanted.get(name)) ? others : kept;
  }, chosen);
}

async function main() {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      seeds: { type: "string", default: "150" },
      start: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const known = JSON.parse(await readFile(FILE, "utf8"));
  for (const identities of Object.keys(known)) {
    if (values.only !== undefined && values.only !== identities) continue;
    const { situations } = known[identities];
    const results = await runSimulation({
      seeds: Number(values.seeds),
      start: Number(values.start),
      identities,
      goOn: true,
    });
    const broken = results.filter(({ failure }) => failure !== undefined);
    if (broken.length > 0) throw new Error(`seed ${broken[0].seed} fails: ${broken[0].failure.invariant}`);
    const runs = results.map(({ seed, events, counts }) => ({
      seed,
      events,
      met: situations.filter((name) => counts[name] > 0),
    }));
    const { seeds, missing } = chooseSeeds(runs, situations);
    process.stdout.write(
      `${identities}: ${seeds.length} of ${runs.length} seeds meet ${situations.length - missing.length} situations\n`,
    );
    for (const name of missing) process.stdout.write(`  no seed meets: ${name}\n`);
    if (missing.length > 0) process.exitCode = 1;
    else known[identities] = { seeds, situations };
  }
  // The formatter wants numbers side by side.
  const text = JSON.stringify(known, undefined, 2).replace(
    /\[([\s\d,]+)\]/g,
    (_, numbers) => `[${numbers.match(/\d+/g).join(", ")}]`,
  );
  await writeFile(`${FILE}.new`, `${text}\n`);
  await rename(`${FILE}.new`, FILE);
}

if (process.argv[1] === import.meta.filename) await main();
