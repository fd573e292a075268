// Measures all rows, round by round: etcd and Cairn in turn, and the other first in the next row.
import { Cluster } from "../../support/cluster/clusters.mjs";
import { Drivers } from "../../support/cluster/drivers.mjs";
import { cellKey } from "../rows.mjs";
import { summarize } from "../statistics.mjs";
import { measureLife } from "./life.mjs";

/** Each kind of call is made for this time before anything counts, so that V8 compiles its path. */
const WARM_UP_SECONDS = 0.3;
const WARM_UP_CALLERS = 64;

/**
 * Measures `rows`. Returns them with `rounds` and `summary`, and `processes`, which tells what the
 * servers have taken. After a failure of a whole round, it returns what it has, and `unfinished`.
 */
export async function measure(context) {
  const { rows, settings, say } = context;
  const measured = new Map(rows.map((row) => [row, []]));
  const processes = [];
  let unfinished;
  try {
    for (let round = 0; round < settings.rounds; round++) {
      say(`round ${round + 1} of ${settings.rounds}`);
      await measureRound(context, round, measured, processes);
    }
  } catch (error) {
    say(error.stack);
    unfinished = error.message;
  }
  return { rows: rows.map((row) => ({ ...row, ...summaryOf(measured.get(row)) })), processes, unfinished };
}

async function measureRound(context, round, measured, processes) {
  const [load, life] = ["load", "life"].map((kind) => context.rows.filter((row) => row.kind === kind));
  if (load.length > 0) {
    const { figures, taken } = await loadRound(context, load, round);
    for (const row of load) measured.get(row).push(figures.get(row));
    processes.push(taken);
  }
  if (life.length > 0 && round < context.settings.lifeRounds) {
    const figures = await lifeRound(context, life, round);
    for (const row of life) measured.get(row).push(figures.get(row));
  }
}

/** Both clusters run all the time: the idle one costs little, and the pairs are close in time. */
async function loadRound(context, rows, round) {
  const { systems, settings, sources, processes } = context;
  const directory = processes.directory(settings.data, "cairn-compare-");
  const sides = {};
  try {
    for (const system of systems) {
      const cluster = await Cluster.start(system, processes, directory, { etcd: sources.etcd.path });
      const drivers = new Drivers(processes, cluster, sources);
      sides[system] = { cluster, drivers, cells: new Map(), calls: 0, puts: 0 };
    }
    for (const system of systems) {
      const cells = rows.map((row) => row[system]);
      await prepare(context, sides[system], cells);
    }
    const figures = new Map();
    for (const [at, row] of rows.entries()) {
      const pair = {};
      for (const system of inTurn(systems, round + at)) {
        pair[system] = await measureCell(context, sides[system], row[system], `${row.name} ${system}`);
      }
      figures.set(row, pair);
    }
    const taken = {};
    for (const system of systems) taken[system] = await takenBy(sides[system]);
    return { figures, taken };
  } finally {
    for (const { cluster, drivers } of Object.values(sides)) {
      drivers.close();
      await cluster.stop();
    }
    processes.remove(directory);
  }
}

/** Fills a cluster with all keys, and makes each kind of call for a moment. */
async function prepare({ settings, say }, { cluster, drivers }, cells) {
  for (const valueBytes of new Set(cells.map((cell) => cell.valueBytes))) {
    const { rate } = await drivers.fill({ keys: settings.keys, valueBytes });
    say(`  ${cluster.system} filled with ${settings.keys} values of ${valueBytes} bytes: ${Math.round(rate)} a second`);
  }
  const kinds = new Map(cells.map((cell) => [[cell.driver, cell.op, cell.route].join(" "), cell]));
  for (const { driver, op, route, valueBytes } of kinds.values()) {
    const cell = { driver, op, route, valueBytes, callers: WARM_UP_CALLERS };
    await drivers.run(cell, { keys: settings.keys, seconds: WARM_UP_SECONDS, warm: 0 });
  }
}

/** Measures a cell, unless another row of this round has. A cell that fails is `{ failed }`. */
async function measureCell({ settings, say }, side, cell, name) {
  const key = cellKey(cell);
  const known = side.cells.get(key);
  if (known !== undefined) return known;
  const { nodes } = side.cluster;
  const before = nodes.map(({ usage }) => usage.read());
  let figures;
  try {
    const { seconds, warm, keys } = settings;
    const result = await side.drivers.run(cell, { seconds, warm, keys });
    side.cluster.checkWhole();
    const after = nodes.map(({ usage }) => usage.read());
    const spent = (what) => after.reduce((sum, usage, at) => sum + usage[what] - before[at][what], 0);
    side.calls += result.calls;
    side.puts += result.puts;
    figures = { ...result, serverMicros: (spent("cpuSeconds") * 1e6) / result.calls };
    if (cell.op === "put") figures.writtenPerByte = spent("writtenBytes") / (result.puts * cell.valueBytes);
    const { rate, p50, p99, errors } = figures;
    const remarks = errors > 0 ? `, ${errors} errors` : "";
    say(`  ${name}: ${Math.round(rate)}/s, p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)} ms${remarks}`);
  } catch (error) {
    figures = { failed: error.message };
    say(`  ${name} failed: ${error.message}`);
  }
  side.cells.set(key, figures);
  return figures;
}

/** The processes of a cluster, its leader first, since they started. */
async function takenBy({ cluster, calls, puts }) {
  const leader = await cluster.leader();
  const nodes = [leader, ...cluster.nodes.filter((node) => node !== leader)];
  return { calls, puts, nodes: nodes.map(({ usage }) => usage.read()) };
}

/** One cluster at a time: it needs the whole machine. */
async function lifeRound(context, rows, round) {
  const { systems, settings, processes, say } = context;
  const figures = new Map(rows.map((row) => [row, {}]));
  for (const system of inTurn(systems, round)) {
    const directory = processes.directory(settings.data, "cairn-compare-");
    try {
      const wanted = rows.map(({ name }) => name);
      const measured = await measureLife(context, system, directory, wanted);
      for (const row of rows) figures.get(row)[system] = measured[row.name];
    } catch (error) {
      say(`  ${system} failed: ${error.message}`);
      for (const row of rows) figures.get(row)[system] ??= { failed: error.message };
    } finally {
      processes.remove(directory);
    }
  }
  return figures;
}

function inTurn(systems, turn) {
  return turn % 2 === 0 ? systems : systems.toReversed();
}

function summaryOf(rounds) {
  const good = (figures) => (figures?.failed === undefined ? figures : undefined);
  const summary = summarize(rounds.map(({ etcd, cairn }) => ({ etcd: good(etcd), cairn: good(cairn) })));
  return { rounds, summary };
}
