// Fuzzes everything that takes bytes from outside: `npm run fuzz -- --help`.
import { execFileSync, fork } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { bundleSettings } from "../support/run/bundle_settings.mjs";

const root = resolve(import.meta.dirname, "../..");

/** Targets that run beside each other; those of one lane take turns. */
const LANES = [
  ["services", "http2"],
  ["decoders", "files", "gateway"],
];

/** A lane that says nothing for this long hangs, in milliseconds. */
const SILENCE_MS = 240_000;

const PROGRESS_MS = 5_000;

/** A bundle takes no module of its own: the packages stay in node_modules. */
const EXTERNAL = ["@grpc/*", "commander", "grpc-health-check", "lmdb", "pino"];

/** Runs targets for a time, or single cases of one of them. Resolves with the messages by target, and what was found, which `onFound` hears at once. */
async function runFuzz({ targets = LANES.flat(), seed, ms, cases, onProgress, onFound }) {
  const cache = join(root, "node_modules/.cache");
  await mkdir(cache, { recursive: true });
  const directory = await mkdtemp(join(cache, "cairn-fuzz-"));
  try {
    const bundle = await bundled(directory);
    const lanes = LANES.map((lane) => lane.filter((name) => targets.includes(name))).filter((lane) => lane.length > 0);
    const messages = {};
    const results = await Promise.all(
      lanes.map(async (lane) => {
        const result = await runLane(bundle, { targets: lane, seed, ms, cases }, (progress) => {
          Object.assign(messages, progress.messages);
          onProgress(messages);
        });
        Object.assign(messages, result.messages);
        for (const finding of result.found) await onFound(finding);
        return result;
      }),
    );
    return { messages, found: results.flatMap(({ found }) => found) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Bundles the fuzz into a directory, with the product beside it. */
async function bundled(directory) {
  const outfile = join(directory, "main.mjs");
  // A copy, so that a build does not pull the product from under a run.
  await cp(join(root, "dist"), join(directory, "dist"), { recursive: true });
  await cp(join(root, "package.json"), join(directory, "package.json"));
  await build({
    entryPoints: [join(root, "test/fuzz/run/main.ts")],
    outfile,
    ...bundleSettings,
    external: EXTERNAL,
  });
  return outfile;
}

/** A process that runs the targets of one lane; its end without a result is a finding, and so is its silence. */
function runLane(bundle, job, onProgress) {
  const child = start(bundle);
  let last = { target: job.targets[0], at: 0, messages: {} };
  let result;
  return new Promise((resolve) => {
    let silence = setTimeout(isSilent, SILENCE_MS);
    const lost = (text) => ({
      messages: last.messages,
      found: [{ target: last.target, first: Math.max(0, last.at - 500), last: last.at + 500, text, trace: [] }],
    });
    function isSilent() {
      result = lost(`hangs: nothing in ${SILENCE_MS} ms behind case ${last.at}`);
      child.kill("SIGKILL");
    }
    child.on("message", (message) => {
      clearTimeout(silence);
      silence = setTimeout(isSilent, SILENCE_MS);
      if (message.result !== undefined) result = message.result;
      if (message.progress === undefined) return;
      last = message.progress;
      onProgress(message.progress);
    });
    child.once("exit", (code, signal) => {
      clearTimeout(silence);
      resolve(result ?? lost(`the process of the fuzz has ended (${signal ?? code}) near case ${last.at}`));
    });
    child.send(job);
  });
}

const children = new Set();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

function start(bundle) {
  const child = fork(bundle, {
    execArgv: ["--enable-source-maps", "--max-semi-space-size=32"],
    env: { ...process.env, CAIRN_FUZZ_ROOT: root, CAIRN_FUZZ_DIST: join(dirname(bundle), "dist") },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

const USAGE = `npm run fuzz -- [options]

  --minutes N    how long (default 5)
  --seed S       decides the cases (default: drawn, and printed)
  --only TARGET  one of ${LANES.flat().join(", ")}
  --case A[-B]   with --only and --seed: only these cases
  --record       write the recorded traffic that messages are made from, test/fuzz/corpus.json, anew
`;

async function main() {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "5" },
      seed: { type: "string", default: String(Date.now() % 2 ** 31) },
      only: { type: "string" },
      case: { type: "string" },
      record: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const seed = wholeNumber("--seed", values.seed);
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error(`--minutes must be a number above 0, not ${values.minutes}`);
  if (values.only !== undefined && !LANES.flat().includes(values.only)) {
    throw new Error(`--only must be one of ${LANES.flat().join(", ")}, not ${values.only}`);
  }
  const cases = values.case === undefined ? undefined : casesIn(values.case);
  if (cases !== undefined && values.only === undefined) throw new Error("--case needs --only, which names its target");
  execFileSync(process.execPath, [join(root, "build.mjs"), "--if-needed"], { stdio: ["ignore", 2, 2] });
  if (values.record) return record();
  await fuzz({ seed, minutes, only: values.only, cases });
}

async function fuzz({ seed, minutes, only, cases }) {
  const began = performance.now();
  const ms = Math.round(minutes * 60_000);
  let shown = 0;
  process.stderr.write(`fuzz with seed ${seed} for ${minutes} min: ${only ?? LANES.flat().join(", ")}\n`);
  const { messages, found } = await runFuzz({
    targets: only === undefined ? undefined : [only],
    seed,
    ms,
    cases,
    onFound: (finding) => report(finding, seed),
    onProgress(messages) {
      if (performance.now() - shown < PROGRESS_MS) return;
      shown = performance.now();
      const seconds = ((performance.now() - began) / 1000).toFixed(0);
      const each = Object.entries(messages).map(([name, count]) => `${name} ${count.toLocaleString("en")}`);
      process.stderr.write(`${seconds} s: ${each.join(", ")}\n`);
    },
  });
  const sum = Object.values(messages).reduce((total, count) => total + count, 0);
  const findings = found.length === 1 ? "1 finding" : `${found.length} findings`;
  process.stdout.write(`${sum.toLocaleString("en")} messages, ${findings}, seed ${seed}\n`);
  if (found.length > 0) process.exitCode = 1;
}

/** Writes a finding to a file, and says how to repeat it. */
async function report({ target, first, last, text, trace }, seed) {
  const cases = first === last ? `${first}` : `${first}-${last}`;
  const again = `npm run fuzz -- --only ${target} --seed ${seed} --case ${cases}`;
  const file = resolve(`fuzz-${target}-${seed}-${cases}.txt`);
  await writeFile(file, [text, "", `again: ${again}`, "", "the last case:", ...trace, ""].join("\n"));
  process.stderr.write(`\n${target}, case ${cases}: ${text}\n\nthe case: ${file}\nagain: ${again}\n\n`);
}

async function record() {
  const cache = join(root, "node_modules/.cache");
  await mkdir(cache, { recursive: true });
  const directory = await mkdtemp(join(cache, "cairn-fuzz-"));
  try {
    const child = start(await bundled(directory));
    child.send("record");
    await new Promise((resolve) => child.once("exit", resolve));
    if (child.exitCode !== 0) process.exitCode = 1;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function wholeNumber(option, text) {
  if (!/^\d{1,15}$/.test(text)) throw new Error(`${option} must be a whole number, not ${JSON.stringify(text)}`);
  return Number(text);
}

function casesIn(text) {
  const match = /^(\d{1,15})(?:-(\d{1,15}))?$/.exec(text);
  if (match === null)
    throw new Error(`--case must be a number, or two with a hyphen between them, not ${JSON.stringify(text)}`);
  return [Number(match[1]), Number(match[2] ?? match[1])];
}

await main().catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
});
