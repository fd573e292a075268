// Measures the key-value machine on Cairn's own store beside the one on LMDB: the price of puts and
// reads on each thread, bytes written, room on the disk, memory, restarts, and what a node's event
// loop and log notice.
//
//   npm run bench:store -- --quick        (--help lists the options)
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startProcess } from "../support/node.mjs";
import { describeMachine } from "../support/report/machine.mjs";
import { readOptions } from "./options.mjs";
import { tablesOf } from "./report.mjs";
import { rowsOf } from "./rows.mjs";

const MIB = 2 ** 20;
const SYSTEMS = ["store", "lmdb"];
/** A flush size that a steady load does not reach. */
const NO_FLUSH_MIB = 512;

/** Progress goes to standard error, the result to standard output. */
const say = (text) => console.error(text);

const settings = readOptions(process.argv.slice(2));
const rows = rowsOrExit();
if (settings.list) for (const { name } of rows) console.log(name);
else await run();

function rowsOrExit() {
  try {
    return rowsOf(settings);
  } catch (error) {
    say(error.message);
    process.exit(2);
  }
}

async function run() {
  const machine = describeMachine(settings.data);
  if (machine.fileSystem === "tmpfs") say(`${settings.data} is in memory: choose a disk with --data`);
  const result = {
    command: ["npm run bench:store --", ...process.argv.slice(2)].join(" "),
    at: new Date().toISOString(),
    machine,
    settings,
    rows: rows.map((row) => ({ ...row, rounds: [] })),
  };
  for (let round = 1; round <= settings.rounds; round++) {
    for (const row of result.rows) {
      say(`${row.name}${settings.rounds > 1 ? `, round ${round} of ${settings.rounds}` : ""}`);
      try {
        row.rounds.push(await measured(row));
      } catch (error) {
        say(`  failed: ${error.message}`);
        process.exitCode = 1;
      }
      // A long run may be ended before its last row.
      if (settings.json !== undefined) writeFileSync(settings.json, `${JSON.stringify(result, undefined, 2)}\n`);
    }
  }
  console.log(tablesOf(result));
}

/** Measures one row, each system in a process and a directory of its own that go when it ends. */
async function measured(row) {
  const directory = mkdtempSync(join(settings.data, "cairn-bench-store-"));
  const processes = [];
  const start = async (name, config) => {
    const path = join(directory, name);
    mkdirSync(path);
    const given = { keys: row.keys, valueBytes: row.valueBytes, flushBytes: settings.flushMib * MIB, ...config };
    const started = await startProcess(new URL("../store/process.mjs", import.meta.url), [
      JSON.stringify({ ...given, directory: path }),
    ]);
    processes.push(started);
    return started;
  };
  try {
    return await { size: measureSize, bytes: measureBytes, loop: measureLoop }[row.table](row, start);
  } finally {
    for (const { kill } of processes) kill();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The systems take turns: both are there all the time, and only one has something to do. */
async function inTurn(subjects, name, task, fields) {
  const figures = {};
  for (const [system, subject] of Object.entries(subjects)) {
    const start = performance.now();
    figures[system] = await subject.ask(task, fields);
    say(`  ${name}, ${system}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
  return figures;
}

async function startBoth(start) {
  const subjects = {};
  for (const system of SYSTEMS) subjects[system] = await start(system, { system });
  return subjects;
}

async function measureSize({ keys }, start) {
  const subjects = await startBoth(start);
  const all = (name, task, fields) => inTurn(subjects, name, task, fields);
  const count = settings.puts;
  const figures = {
    fill: await all("fill", "fill"),
    put: await all("put", "put", { count, withId: false }),
    putWithId: await all("put with a request id", "put", { count, withId: true }),
    decode: await all("decode", "decode", { count, withId: false }),
    decodeWithId: await all("decode with a request id", "decode", { count, withId: true }),
    engine: { store: await subjects.store.ask("putIntoStore", { count }) },
    read: await all("reads", "read"),
    memory: await all("memory", "memory"),
    // Something for the log to hold: the puts above went past it.
    overwrite: await all("overwrite", "overwrite", {
      order: "random",
      bytes: Math.min(keys * 272, 2.5 * settings.flushMib * MIB),
    }),
    restart: await all("restart", "restart"),
    deleted: await all("delete all", "deleteAll"),
  };
  await all("end", "end");
  return figures;
}

async function measureBytes({ order, keys, valueBytes }, start) {
  const subjects = await startBoth(start);
  await inTurn(subjects, "fill", "fill");
  const bytes = settings.turnover * keys * valueBytes;
  const overwrite = await inTurn(subjects, `overwrite, ${order}`, "overwrite", { order, bytes });
  await inTurn(subjects, "end", "end");
  return { overwrite };
}

async function measureLoop(_row, start) {
  const subjects = {
    store: await start("store", { system: "store" }),
    "store without flushes": await start("quiet", { system: "store", flushBytes: NO_FLUSH_MIB * MIB }),
    lmdb: await start("lmdb", { system: "lmdb" }),
  };
  const { rate: perSecond, seconds } = settings;
  await inTurn(subjects, "fill", "fill");
  const steady = await inTurn(subjects, "steady load", "steady", { perSecond, seconds });
  await inTurn(subjects, "end", "end");
  return { steady };
}
