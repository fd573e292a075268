// Finds seeds for the bugs of ../faults/planted_bugs.ts, and keeps them in planted_seeds.json beside it:
// `npm run plant -- --help`.
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { runSimulation } from "./launch.mjs";

const SEEDS_FILE = join(import.meta.dirname, "../faults/planted_seeds.json");

/** Seeds that are tried after the first one that fails, to find one that fails sooner. */
const MORE_SEEDS = 8;

/** The search ends with such a short run, which takes no longer than the start of its process. */
const FEW_EVENTS = 800;

/**
 * The search tries seeds in short runs first, and in longer ones later. Every bug gets its short
 * search before any bug gets a long one: a command that is interrupted has found most.
 */
const STEPS = [
  { from: 0, to: 20, mostEvents: 2_000 },
  { from: 0, to: 40, mostEvents: undefined },
  { from: 40, to: Number.POSITIVE_INFINITY, mostEvents: undefined },
];

/** Returns the seed that is kept for each bug, by the bug's name. */
export async function readSeeds() {
  return JSON.parse(await readFile(SEEDS_FILE, "utf8"));
}

/**
 * Returns the seed that finds a bug in the fewest events, as `{ seed, events, tried }`; without
 * `seed` when no seed finds it. The search ends MORE_SEEDS seeds after the first that fails, or
 * with one that fails within FEW_EVENTS. A run ends when it has as many events as the best one.
 */
export async function findSeed(
  { patches, identities = "given", state = "memory" },
  { list, mostEvents, signal, simulate = runSimulation },
) {
  const found = new AbortController();
  let best;
  let tried = 0;
  let left = Number.POSITIVE_INFINITY;
  await simulate({
    list,
    patches,
    identities,
    state,
    workers: 1,
    goOn: true,
    signal: AbortSignal.any([signal, found.signal]),
    mostEvents: () => best?.events ?? mostEvents,
    onResult: ({ seed, events, failure }) => {
      tried += 1;
      left -= 1;
      if (failure !== undefined && (best === undefined || events < best.events)) {
        if (best === undefined) left = MORE_SEEDS;
        best = { seed, events };
      }
      if (left === 0 || (best !== undefined && best.events <= FEW_EVENTS)) found.abort();
    },
  });
  return { ...best, tried };
}

const USAGE = `npm run plant -- [options]

Tries the seed that test/sim/faults/planted_seeds.json has for each bug of planted_bugs.ts beside it.
For each bug that its seed no longer finds, searches another one: of the first that do, the one with
the fewest events. Writes the file after each bug that is found: it is safe to interrupt the command.
Exits with 1 when a bug is not found.

  --all          search again for all bugs, for seeds that find them sooner
  --only TEXT    only bugs with this text in their name or rule
  --seeds N      how many seeds to try for each bug (default 1000)
  --start S      the first of them (default 1)
  --workers W    bugs that are searched at a time (default 2)
`;

async function main() {
  const { values } = parseArgs({
    options: {
      all: { type: "boolean", default: false },
      only: { type: "string", default: "" },
      seeds: { type: "string", default: "1000" },
      start: { type: "string", default: "1" },
      workers: { type: "string", default: "2" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const [start, seeds, workers] = ["start", "seeds", "workers"].map((name) => wholeNumber(name, values[name]));
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());
  const { plantedBugs } = await importBundled("../faults/planted_bugs.ts");
  const bugs = plantedBugs.filter(({ name, rule }) => name.includes(values.only) || rule.includes(values.only));
  if (bugs.length === 0) throw new Error(`no planted bug has "${values.only}" in its name or rule`);
  const search = new Search(plantedBugs, await readSeeds(), stop.signal, workers);
  const list = Array.from({ length: seeds }, (_, at) => start + at);
  let never = [];
  try {
    never = values.all ? bugs : await search.stale(bugs);
    for (const { from, to, mostEvents } of STEPS) never = await search.findAll(never, list.slice(from, to), mostEvents);
  } catch (error) {
    // A signal from the terminal ends the processes that run seeds, too.
    if (!stop.signal.aborted) throw error;
  }
  process.exitCode = stop.signal.aborted ? 130 : never.length > 0 ? 1 : 0;
  if (stop.signal.aborted) return say("interrupted: the seeds that were found are kept");
  if (never.length === 0) return say("each bug has a seed");
  say([`not found in seeds ${start} to ${start + seeds - 1}:`, ...never.map(({ name }) => `  ${name}`)].join("\n"));
}

/** Searches several bugs at a time, and writes each seed that is found. */
class Search {
  #written = Promise.resolve();

  constructor(plantedBugs, seeds, signal, workers) {
    this.plantedBugs = plantedBugs;
    this.seeds = seeds;
    this.signal = signal;
    this.workers = workers;
    this.started = performance.now();
  }

  /** Returns the bugs that their seed does not find. */
  async stale(bugs) {
    const stale = [];
    await this.#each(bugs, async (bug) => {
      const seed = this.seeds[bug.name];
      const { seed: found, events } =
        seed === undefined ? {} : await findSeed(bug, { list: [seed], signal: this.signal });
      if (this.signal.aborted) return "interrupted";
      if (found === undefined) stale.push(bug);
      return seed === undefined
        ? "no seed yet"
        : found === undefined
          ? `seed ${seed} is stale`
          : inWords({ seed, events });
    });
    return bugs.filter((bug) => stale.includes(bug));
  }

  /** Returns the bugs that no seed of the list finds. */
  async findAll(bugs, list, mostEvents) {
    const never = [];
    if (list.length === 0) return bugs;
    await this.#each(bugs, async (bug) => {
      const { tried, ...best } = await findSeed(bug, { list, mostEvents, signal: this.signal });
      if (this.signal.aborted) return "interrupted";
      if (best.seed === undefined) never.push(bug);
      else await this.#keep(bug, best.seed);
      return best.seed === undefined
        ? `not in ${tried} seeds${mostEvents === undefined ? "" : ` of ${mostEvents} events`}`
        : `${inWords(best)}, of ${tried} seeds`;
    });
    return bugs.filter((bug) => never.includes(bug));
  }

  async #each(bugs, look) {
    let next = 0;
    let done = 0;
    const work = async () => {
      while (next < bugs.length && !this.signal.aborted) {
        const bug = bugs[next++];
        const found = await look(bug);
        const seconds = ((performance.now() - this.started) / 1000).toFixed(1);
        say(`${seconds.padStart(6)} s  ${String(++done).padStart(3)} of ${bugs.length}  ${bug.name}: ${found}`);
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.workers, bugs.length) }, work));
  }

  #keep({ name }, seed) {
    this.seeds[name] = seed;
    this.#written = this.#written.then(() => this.#write());
    return this.#written;
  }

  /** In the order of the bugs, without those that are gone. */
  async #write() {
    const known = this.plantedBugs.filter((bug) => this.seeds[bug.name] !== undefined);
    const seeds = Object.fromEntries(known.map((bug) => [bug.name, this.seeds[bug.name]]));
    await writeFile(`${SEEDS_FILE}.new`, `${JSON.stringify(seeds, undefined, 2)}\n`);
    await rename(`${SEEDS_FILE}.new`, SEEDS_FILE);
  }
}

function inWords({ seed, events }) {
  return `seed ${seed} after ${events} events`;
}

function say(line) {
  process.stdout.write(`${line}\n`);
}

function wholeNumber(name, text) {
  if (!/^[1-9]\d*$/.test(text)) throw new Error(`--${name} must be a whole number from 1 on, not ${text}`);
  return Number(text);
}

/** Imports a TypeScript file, given with its path from this folder. */
async function importBundled(file) {
  const entryPoints = [join(import.meta.dirname, file)];
  const { outputFiles } = await build({ entryPoints, bundle: true, write: false, platform: "node", format: "esm" });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

if (process.argv[1] === import.meta.filename) await main();
