// Measures Cairn beside etcd on this machine: speed, latency, cost, and the life of a cluster.
//
//   npm run bench:compare -- --quick        (--help lists the options)
import { readFileSync, writeFileSync } from "node:fs";
import { Processes } from "../support/cluster/processes.mjs";
import { findSources } from "../support/cluster/sources.mjs";
import { describeMachine } from "../support/report/machine.mjs";
import { withReport } from "../support/report/tables.mjs";
import { readOptions } from "./options.mjs";
import { report } from "./report.mjs";
import { rowsOf } from "./rows.mjs";
import { measure } from "./run/measure.mjs";

/** Progress goes to standard error, the result to standard output. */
const say = (text) => console.error(text);

const settings = readOptions(process.argv.slice(2));
if (settings.list) {
  for (const { name } of rowsOrExit()) console.log(name);
} else {
  const result =
    settings.from === undefined ? await run(rowsOrExit()) : JSON.parse(readFileSync(settings.from, "utf8"));
  print(result);
  const failed = ({ rounds }) =>
    rounds.some((pair) => Object.values(pair).some((figures) => figures?.failed !== undefined));
  if (result.unfinished !== undefined || result.rows.some(failed)) process.exitCode = 1;
}

function rowsOrExit() {
  try {
    return rowsOf(settings);
  } catch (error) {
    say(error.message);
    process.exit(2);
  }
}

async function run(wantedRows) {
  const processes = new Processes();
  // The keeper ends what runs.
  process.once("SIGINT", () => process.exit(130));
  process.once("SIGTERM", () => process.exit(143));
  const { cache, etcd, data } = settings;
  const etcd3 = wantedRows.some((row) => row.etcd?.driver === "etcd3");
  const sources = await findSources(processes, { cache, etcd, etcd3, say });
  const systems = sources.etcd.path === undefined ? ["cairn"] : ["etcd", "cairn"];
  if (etcd !== false && sources.etcd.path === undefined) {
    say(`etcd cannot be had, so Cairn is measured alone: ${sources.etcd.missing}`);
  }
  const rows = possibleRows(wantedRows, systems, sources);
  const machine = describeMachine(data);
  if (machine.fileSystem === "tmpfs") say(`${data} is in memory: choose a disk with --data`);
  const measured = await measure({ rows, settings, systems, sources, processes, say });
  return {
    command: ["npm run bench:compare --", ...process.argv.slice(2)].join(" "),
    at: new Date().toISOString(),
    machine,
    cairn: JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version,
    sources: Object.fromEntries(Object.entries(sources).map(([name, { path: _, ...source }]) => [name, source])),
    settings,
    ...measured,
  };
}

/** The rows that can be measured here; says which ones cannot, and why. */
function possibleRows(rows, systems, sources) {
  const lacking = (row) =>
    systems
      .map((system) => row[system]?.driver)
      .find((driver) => sources[driver] !== undefined && sources[driver].path === undefined);
  for (const driver of new Set(rows.map(lacking).filter((driver) => driver !== undefined))) {
    const names = rows.filter((row) => lacking(row) === driver).map(({ name }) => name);
    say(`no ${driver === "load" ? "load generator" : driver}: ${sources[driver].missing}`);
    say(`not measured for want of it: ${names.join(", ")}`);
  }
  return rows.filter((row) => lacking(row) === undefined);
}

function print(result) {
  const tables = report(result);
  const json = JSON.stringify(result, undefined, 2);
  if (typeof settings.json === "string") writeFileSync(settings.json, `${json}\n`);
  console.log(settings.json === true ? json : tables);
  if (settings.markdown === undefined) return;
  if (result.unfinished !== undefined) say(`${settings.markdown} stays as it is`);
  else {
    writeFileSync(settings.markdown, withReport(readFileSync(settings.markdown, "utf8"), "compare", tables));
  }
}
