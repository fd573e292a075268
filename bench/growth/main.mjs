// Measures how Cairn's speed, memory and disk grow: with members, with the size of values, with
// keys, and with time.
//
//   npm run bench:growth -- --quick        (--help lists the options)
import { readFileSync, writeFileSync } from "node:fs";
import { limits } from "../../dist/src/index.js";
import { Processes } from "../support/cluster/processes.mjs";
import { findSources } from "../support/cluster/sources.mjs";
import { describeMachine } from "../support/report/machine.mjs";
import { withReport } from "../support/report/tables.mjs";
import { readOptions } from "./options.mjs";
import { tablesOf } from "./report.mjs";
import { rowsOf, TABLES } from "./rows.mjs";
import { measureKeys } from "./run/keys.mjs";
import { measureLoads } from "./run/loads.mjs";
import { measureSustained } from "./run/sustain.mjs";

const MEASURES = { members: measureLoads, values: measureLoads, keys: measureKeys, sustain: measureSustained };
/** These tables are of several rounds. The others take too long, or are a series in themselves. */
const IN_ROUNDS = new Set(["members", "values"]);

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
  const processes = new Processes();
  // The keeper ends what runs.
  process.once("SIGINT", () => process.exit(130));
  process.once("SIGTERM", () => process.exit(143));
  const sources = await findSources(processes, { cache: settings.cache, etcd: false, say });
  const unary = sources.load.path === undefined ? "unary" : "load";
  if (unary === "unary") say(`grpc-js makes the unary calls, no load generator: ${sources.load.missing}`);
  const machine = describeMachine(settings.data);
  if (machine.fileSystem === "tmpfs") say(`${settings.data} is in memory: choose a disk with --data`);
  const result = {
    command: ["npm run bench:growth --", ...process.argv.slice(2)].join(" "),
    at: new Date().toISOString(),
    machine,
    cairn: JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version,
    unary,
    settings,
    rows: rows.map((row) => ({ ...row, rounds: [] })),
  };
  const context = { processes, sources, settings, limits, unary, say };
  for (const table of TABLES) await measureTable(context, result, table);
  print(result);
  if (result.rows.some(({ rounds }) => rounds.some(({ failed }) => failed !== undefined))) process.exitCode = 1;
}

/** Measures all rows of a table in each round: a slow minute of the machine falls on few of them. */
async function measureTable(context, result, table) {
  const ofTable = result.rows.filter((row) => row.table === table);
  const rounds = IN_ROUNDS.has(table) ? settings.rounds : 1;
  for (let round = 1; round <= rounds; round++) {
    for (const row of ofTable) {
      say(`  ${row.name}${rounds > 1 ? `, round ${round} of ${rounds}` : ""}`);
      const figures = await MEASURES[table](context, row).catch((error) => {
        say(`    failed: ${error.message}`);
        return { failed: error.message };
      });
      row.rounds.push(figures);
      // A long run may be ended before its last row.
      if (settings.json !== undefined) writeFileSync(settings.json, `${JSON.stringify(result, undefined, 2)}\n`);
    }
  }
}

function print(result) {
  const tables = tablesOf(result);
  console.log(Object.values(tables).join("\n\n"));
  if (settings.markdown === undefined) return;
  let page = readFileSync(settings.markdown, "utf8");
  for (const [name, text] of Object.entries(tables)) {
    const rowsOfTable = result.rows.filter(({ table }) => table === name);
    if (rowsOfTable.some(({ rounds }) => rounds.every(({ failed }) => failed !== undefined))) {
      say(`${settings.markdown} keeps its table of ${name}: a row has failed`);
    } else page = withReport(page, `growth-${name}`, text);
  }
  writeFileSync(settings.markdown, page);
}
