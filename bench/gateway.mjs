// Measures how fast the gateway answers, and that neither its disk nor a node's memory grows with what is written or sent.
//
//   npm run build && node bench/gateway.mjs [REQUESTS]
//   node bench/gateway.mjs --small [REQUESTS] [--rounds N] [--other DIST]
//
// 1. One gateway process answers REQUESTS (default 10,000) apply_entries of ten entries with values of 1 KiB, one at a time, and a
//    take_snapshot after every 500 of them. Exits 1 when its log ever took more than two segment files.
// 2. A gateway sends a state of 32 MiB as a snapshot to a node in a process of its own, whose peak memory is printed.
//
// With --small: one gateway process answers REQUESTS (default 1,500) apply_entries of one or two entries. Prints wall time and CPU time of a
// request; with --other, alternates with another build (its dist folder), and prints the medians of the rounds' ratios.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { peakMemory, startCairn } from "./support/cairn_process.mjs";
import { smallEntries } from "./support/small_entries.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const ENTRIES = 10;
const VALUE = "v".repeat(1024);
const REQUESTS_PER_SNAPSHOT = 500;
const SEGMENTS_MAX = 2;
const KEYS = 1000;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { small: { type: "boolean" }, rounds: { type: "string", default: "5" }, other: { type: "string" } },
});
const requests = Number(positionals[0] ?? (options.small ? 1_500 : 10_000));
const directory = mkdtempSync(join(tmpdir(), "cairn-bench-"));
const children = [];
let failed = false;
try {
  if (options.small) {
    const builds = options.other === undefined ? [DIST] : [DIST, options.other];
    await smallEntries(builds, { requests, rounds: Number(options.rounds) });
  } else {
    await compaction();
    await installation();
  }
} finally {
  for (const child of children) child.kill();
  rmSync(directory, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;

async function compaction() {
  const gateway = start(["gateway", "--data-dir", join(directory, "own")]);
  await gateway.ask("init", { node_id: "n1", node_ids: ["n1"] });
  const wal = join(directory, "own", "n1", "wal");
  const latencies = { apply_entries: [], take_snapshot: [] };
  let segments = 0;
  const timed = async (type, fields) => {
    const started = performance.now();
    await gateway.ask(type, fields);
    latencies[type].push(performance.now() - started);
    segments = Math.max(segments, readdirSync(wal).length);
  };
  const started = performance.now();
  for (let request = 1; request <= requests; request++) {
    await timed("apply_entries", { entries: entriesOf(request) });
    if (request % REQUESTS_PER_SNAPSHOT === 0) await timed("take_snapshot", { threshold: 1 });
  }
  const seconds = (performance.now() - started) / 1000;
  const rows = Object.entries(latencies).map(([type, times]) => ({
    message: type,
    count: times.length,
    ...summary(times),
  }));
  console.table(rows);
  console.log(
    `${(requests / seconds).toFixed(0)} requests/s, ${((requests * ENTRIES) / seconds).toFixed(0)} entries/s`,
  );
  console.log(`peak memory of the gateway and its node: ${peakMemory(gateway.pid)}`);
  console.log(`most segment files at a time: ${segments} (at most ${SEGMENTS_MAX})`);
  failed ||= segments > SEGMENTS_MAX;
  await gateway.end();
}

async function installation() {
  const node = start([
    "start",
    "--id",
    "n1",
    "--data",
    join(directory, "running"),
    "--listen",
    "127.0.0.1:0",
    "--elections",
    "manual",
    "--json",
  ]);
  const { address } = JSON.parse(await node.line());
  const gateway = start(["gateway", "--nodes", `n1=${address}`]);
  await gateway.ask("init", { node_id: "n1", node_ids: ["n1"] });
  await gateway.ask("get_log_info", {});
  const before = peakMemory(node.pid);
  const state = Object.fromEntries(Array.from({ length: 32 * 1024 }, (_, at) => [`key-${at}`, VALUE]));
  const started = performance.now();
  const { applied } = await gateway.ask("install_snapshot", { snapshot_index: 5, snapshot_term: 1, state });
  const seconds = (performance.now() - started) / 1000;
  failed ||= applied !== true;
  console.log(`install_snapshot of 32 MiB: ${seconds.toFixed(2)} s, applied: ${applied}`);
  console.log(`peak memory of the node: ${before} before, ${peakMemory(node.pid)} after`);
  await gateway.end();
}

function entriesOf(request) {
  const first = (request - 1) * ENTRIES + 1;
  return Array.from({ length: ENTRIES }, (_, at) => ({
    index: first + at,
    term: 1,
    command: { op: "put", key: `key-${(first + at) % KEYS}`, value: VALUE },
  }));
}

function start(args) {
  const child = startCairn(DIST, args);
  children.push(child);
  return child;
}

function summary(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part) => (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0).toFixed(2);
  return { "p50 ms": at(0.5), "p99 ms": at(0.99), "max ms": at(1) };
}
