// Runs seeds of the simulator in processes of their own: `npm run sim -- --help`.
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { bundleSimulation } from "./bundle.mjs";

const root = resolve(import.meta.dirname, "../../..");

/**
 * What a killed node waited for never comes, and Node keeps all that listens to a signal made by AbortSignal.any: some megabytes a seed. A new
 * process has none of it.
 */
const SEEDS_PER_PROCESS = 100;

/**
 * Runs the seeds `start` to `start + seeds - 1`, and resolves with the results, in the order in which they ended. After a failure no more
 * seeds are begun, unless `goOn` is set. See launch.d.mts for the options.
 */
export async function runSimulation({ workers, patches, ...options }) {
  const simulator = await Simulator.open({ workers, patches });
  try {
    return await simulator.run(options);
  } finally {
    await simulator.close();
  }
}

/** Processes that run seeds. Those of one run serve the next one, too: the first seeds of a process take long, until its code is compiled. */
export class Simulator {
  #directory;
  #workers;
  #children;

  constructor(directory, workers) {
    this.#directory = directory;
    this.#workers = workers;
    this.#children = Array.from({ length: workers }, () => undefined);
  }

  static async open({ workers = 2, patches = [] } = {}) {
    const cache = join(root, "node_modules/.cache");
    await mkdir(cache, { recursive: true });
    const simulator = new Simulator(await mkdtemp(join(cache, "cairn-sim-")), workers);
    try {
      await bundleSimulation(simulator.#bundle, patches);
    } catch (error) {
      await simulator.close();
      throw error;
    }
    return simulator;
  }

  get #bundle() {
    return join(this.#directory, "main.mjs");
  }

  async run({
    seeds,
    start = 1,
    nodes,
    identities,
    state,
    trace = false,
    goOn = false,
    mostEvents,
    onResult,
    signal,
    ...rest
  }) {
    const list = rest.list ?? Array.from({ length: seeds }, (_, at) => start + at);
    const results = [];
    let next = 0;
    let isOver = false;
    const work = async (at) => {
      while (!isOver && !signal?.aborted && next < list.length) {
        const seed = list[next++];
        const result = await this.#child(at).run({ seed, nodes, identities, state, trace, mostEvents: mostEvents?.() });
        results.push(result);
        onResult?.(result);
        if (result.failure !== undefined && !goOn) isOver = true;
      }
    };
    await Promise.all(Array.from({ length: Math.min(this.#workers, list.length) }, (_, at) => work(at)));
    return results;
  }

  #child(at) {
    if (this.#children[at]?.runs >= SEEDS_PER_PROCESS) this.#children[at].stop();
    if (this.#children[at] === undefined || this.#children[at].isStopped) this.#children[at] = new Worker(this.#bundle);
    return this.#children[at];
  }

  async close() {
    await Promise.all(this.#children.map((child) => child?.stop()));
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** A process that runs one seed after the other. */
class Worker {
  runs = 0;
  isStopped = false;
  #process;

  constructor(bundle) {
    this.#process = fork(bundle, {
      // Most objects of a run die young: a large young generation saves an eighth of its CPU time.
      execArgv: ["--enable-source-maps", "--max-semi-space-size=64"],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
  }

  run(job) {
    this.runs += 1;
    const child = this.#process;
    return new Promise((resolve, reject) => {
      const onMessage = (result) => {
        child.off("exit", onExit);
        resolve(result);
      };
      const onExit = (code, signal) => {
        child.off("message", onMessage);
        reject(new Error(`the process that ran seed ${job.seed} ended with ${signal ?? code}`));
      };
      child.once("message", onMessage);
      child.once("exit", onExit);
      child.send(job);
    });
  }

  /** Resolves when the process has ended. */
  async stop() {
    this.isStopped = true;
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill();
    await once(this.#process, "exit");
  }
}

/** Sums of what the runs have counted. */
export function summarize(results) {
  const counts = {};
  for (const result of results) {
    for (const [name, times] of Object.entries(result.counts)) counts[name] = (counts[name] ?? 0) + times;
  }
  const simulatedMs = results.reduce((sum, result) => sum + result.simulatedMs, 0);
  const events = results.reduce((sum, result) => sum + result.events, 0);
  return { seeds: results.length, simulatedHours: simulatedMs / 3_600_000, events, counts };
}

const USAGE = `npm run sim -- [options]

  --seeds N      how many seeds to run (default 100)
  --start S      the first of them (default 1)
  --seed X       only this one
  --trace        with --seed: print everything that happens
  --nodes K      clusters of K nodes (default: the seed decides)
  --identities I given: nodes are given their identity; drawn: they draw it, and find each other (default: the seed decides)
  --state S      memory, store: where nodes keep their state (default: the seed decides, mostly memory)
  --workers W    processes (default 2)
  --go-on        do not stop at a seed that fails
  --patch FILE   run with changed source: a JSON file, [{"file": "src/...", "find": "occurs once", "replace": "..."}]
  --json         print the summary as JSON
`;

async function main() {
  const { values } = parseArgs({
    options: {
      seeds: { type: "string", default: "100" },
      start: { type: "string", default: "1" },
      seed: { type: "string" },
      trace: { type: "boolean", default: false },
      nodes: { type: "string" },
      identities: { type: "string" },
      state: { type: "string" },
      workers: { type: "string", default: "2" },
      "go-on": { type: "boolean", default: false },
      patch: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  const patches = values.patch === undefined ? [] : JSON.parse(await readFile(values.patch, "utf8"));
  const one = values.seed === undefined ? undefined : Number(values.seed);
  const seeds = one === undefined ? Number(values.seeds) : 1;
  const nodes = values.nodes === undefined ? undefined : Number(values.nodes);
  const started = performance.now();
  let done = 0;
  const results = await runSimulation({
    seeds,
    start: one ?? Number(values.start),
    nodes,
    identities: values.identities,
    state: values.state,
    workers: Number(values.workers),
    patches,
    trace: values.trace && one !== undefined,
    goOn: values["go-on"],
    signal: stop.signal,
    onResult: (result) => {
      done += 1;
      if (result.failure !== undefined) report(result, values);
      const isDue = done % Math.max(1, Math.floor(seeds / 20)) === 0;
      if (isDue && one === undefined) process.stderr.write(`${done} of ${seeds} seeds, ${secondsSince(started)} s\n`);
    },
  });
  const seconds = secondsSince(started);
  const summary = { ...summarize(results), seconds: Number(seconds), failed: failedOf(results) };
  process.stdout.write(values.json ? `${JSON.stringify(summary)}\n` : table(summary));
  if (summary.failed.length > 0) process.exitCode = 1;
  if (stop.signal.aborted) process.exitCode = 130;
}

function failedOf(results) {
  return results.filter(({ failure }) => failure !== undefined).map(({ seed }) => seed);
}

function report({ seed, failure }, values) {
  const lines = values["go-on"] ? failure.lastLines.slice(-3) : failure.lastLines;
  const same = ["nodes", "identities", "state"].filter((name) => values[name] !== undefined);
  const again = `npm run sim -- --seed ${seed} --trace${same.map((name) => ` --${name} ${values[name]}`).join("")}`;
  process.stderr.write(
    `\nseed ${seed} failed: ${failure.invariant}\n${failure.text}\n\nthe last events:\n${lines.join("\n")}\n\nall of them: ${again}\n\n`,
  );
}

function table({ seeds, simulatedHours, events, seconds, counts, failed }) {
  const rows = Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    `${seeds} seeds, ${simulatedHours.toFixed(2)} simulated hours, ${events} events in ${seconds} s`,
    ...rows.map(([name, times]) => `${String(times).padStart(12)}  ${name}`),
    `${rows.length} distinct situations; failed: ${failed.length === 0 ? "none" : failed.join(", ")}`,
    "",
  ].join("\n");
}

function secondsSince(started) {
  return ((performance.now() - started) / 1000).toFixed(1);
}

if (process.argv[1] === import.meta.filename) await main();
