// Measures a long run of puts at a fixed rate, while the nodes compact their logs: what each
// interval was like, and whether anything drifts.
import { setTimeout as pause } from "node:timers/promises";
import { driftOf } from "../drift.mjs";
import { diskOf, rolesOf, withCluster } from "./nodes.mjs";

const VALUE_BYTES = 256;
const KEYS = 100_000;
const CALLERS = 128;
const SAMPLE_MS = 1_000;
/** Time for which the cluster shows what it takes. */
const CAPACITY_SECONDS = 5;

export function measureSustained(context) {
  const { settings, say } = context;
  return withCluster(context, 3, async ({ cluster, drivers }) => {
    const load = { driver: "cairn", op: "put", route: "all", callers: CALLERS, valueBytes: VALUE_BYTES };
    await drivers.run({ ...load, op: "fill" }, { keys: KEYS, seconds: 1, warm: 0 });
    const { rate: capacity } = await drivers.run(load, { keys: KEYS, seconds: CAPACITY_SECONDS, warm: 1 });
    const rate = settings.rate ?? Math.round(capacity / 2);
    say(`    the cluster takes ${Math.round(capacity)} puts/s; ${rate} puts/s for ${settings.sustain} minutes`);
    const client = await drivers.client(load);
    await client.ask("openLoop", { rate, valueBytes: VALUE_BYTES, keys: KEYS, prefix: `v${VALUE_BYTES}-` });
    const intervals = [];
    const started = performance.now();
    const count = Math.max(1, Math.round((settings.sustain * 60) / settings.interval));
    for (let at = 1; at <= count; at++) {
      const nodes = await followNodes(cluster, started + at * settings.interval * 1000);
      const load = await client.ask("interval");
      intervals.push({ seconds: at * settings.interval, ...load, nodes });
      say(`    ${inWords(intervals.at(-1))}`);
    }
    return { capacity, rate, intervals, drift: driftOf(seriesOf(intervals), settings.interval) };
  });
}

/** Samples the nodes until a moment. Returns the highest values of each, the leader's first. */
async function followNodes(cluster, until) {
  const { leader, followers } = await rolesOf(cluster);
  const nodes = [leader, ...followers];
  const most = nodes.map(() => ({ anonymousBytes: 0, fileBytes: 0, descriptors: 0, diskBytes: 0, snapshots: 0 }));
  const newest = nodes.map(() => undefined);
  do {
    await pause(Math.max(0, Math.min(SAMPLE_MS, until - performance.now())));
    cluster.checkWhole();
    for (const [at, node] of nodes.entries()) {
      const now = { ...node.usage.now(), diskBytes: diskOf(node).all };
      for (const name of Object.keys(now)) most[at][name] = Math.max(most[at][name], now[name]);
      // An overloaded node may leave this unanswered; the next sample asks again.
      const { snapshot } = await node.connection.status().catch(() => ({ snapshot: newest[at] }));
      if (newest[at] !== undefined && snapshot > newest[at]) most[at].snapshots++;
      newest[at] = snapshot;
    }
  } while (performance.now() < until);
  return most.map((figures, at) => ({ name: nodes[at].name, ...figures }));
}

/** The figures that may drift, interval by interval. */
function seriesOf(intervals) {
  const sum = (name) => intervals.map(({ nodes }) => nodes.reduce((total, node) => total + node[name], 0));
  const leader = (name) => intervals.map(({ nodes }) => nodes[0][name]);
  return {
    rate: intervals.map(({ rate }) => rate),
    p50: intervals.map(({ p50 }) => p50),
    p99: intervals.map(({ p99 }) => p99),
    "anonymous memory of the leader": leader("anonymousBytes"),
    "anonymous memory of all nodes": sum("anonymousBytes"),
    "open descriptors of all nodes": sum("descriptors"),
    "disk of all nodes": sum("diskBytes"),
  };
}

function inWords({ seconds, rate, p50, p99, errors, nodes }) {
  const memory = nodes.map(({ anonymousBytes }) => Math.round(anonymousBytes / 2 ** 20));
  const failed = errors > 0 ? `, ${errors} errors` : "";
  return `${seconds} s: ${Math.round(rate)}/s, p50 ${p50.toFixed(2)}, p99 ${p99.toFixed(2)} ms, ${memory.join(", ")} MiB${failed}`;
}
