// The cost of watches for a put: puts a second, CPU time of the node's main thread for a put, and memory.
//
//   npm run build && node bench/watch.mjs [--callers 64] [--seconds 4] [--rounds 5] [--many 1000] [--idle 10000]
//
// One node, a process of its own. The callers run in this process, over 8 connections, each making its next put when it has the answer
// to the last one; the watches are in a third process. Four cases take turns within a round, so that a machine that slows down slows all
// of them: no watch, one watch of the prefix of all keys, --many watches of that prefix, and --idle watches of prefixes without keys.
// "told" is the share of the changes that all watches were told of when the puts ended: less than 1 says that they lag, not that changes
// are lost. Keys exist before, and values have 256 bytes. Medians of the rounds. Linux only: /proc tells the time of threads.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../dist/src/rpc/client.js";
import { startProcess } from "./support/node.mjs";

const COMMAND = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const CONNECTIONS = 8;
const KEYS = 10_000;
const PREFIX = "bench/";
const VALUE = Buffer.alloc(256, "v");
const WARM_SECONDS = 1;

const { values: given } = parseArgs({
  options: {
    callers: { type: "string", default: "64" },
    seconds: { type: "string", default: "4" },
    rounds: { type: "string", default: "5" },
    many: { type: "string", default: "1000" },
    idle: { type: "string", default: "10000" },
  },
});
const [callers, seconds, rounds, many, idle] = ["callers", "seconds", "rounds", "many", "idle"].map((name) =>
  Number(given[name]),
);
const cases = {
  "no watch": { count: 0 },
  "1 watch": { count: 1 },
  [`${many} watches of one prefix`]: { count: many },
  [`${idle} idle watches`]: { count: idle, own: true, prefix: "idle/" },
};
const directory = mkdtempSync(join(tmpdir(), "cairn-bench-"));
const watchers = await startProcess("watchers.mjs", []);
const { child, address } = await startNode();
try {
  await put(0, KEYS);
  const found = new Map();
  for (let round = 0; round < rounds; round++) {
    // Each round begins with another case, so that none always comes right after the largest one.
    const names = Object.keys(cases);
    for (const at of names.keys()) {
      const name = names[(at + round) % names.length];
      found.set(name, [...(found.get(name) ?? []), await measure(cases[name])]);
    }
  }
  console.log(`${callers} callers (Node.js), medians of ${rounds} rounds of ${seconds} s`);
  console.table(Object.fromEntries(Object.keys(cases).map((name) => [name, medians(found.get(name))])));
} finally {
  child.kill("SIGKILL");
  watchers.kill();
  rmSync(directory, { recursive: true, force: true });
}

async function startNode() {
  const args = ["start", "--id", "n1", "--data", directory, "--listen", "127.0.0.1:0", "--json"];
  const node = spawn(process.execPath, [COMMAND, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: node.stdout })) {
    const { event, address: listens } = JSON.parse(line);
    if (event === "listening") return { child: node, address: listens };
  }
  throw new Error("the node has ended");
}

async function measure({ count, own = false, prefix = PREFIX }) {
  if (count > 0) await watchers.ask("watch", { address, count, prefix, own });
  await put(WARM_SECONDS);
  const toldBefore = (await watchers.ask("told")).events;
  const before = mainThreadMicros(child.pid);
  const puts = await put(seconds);
  const micros = mainThreadMicros(child.pid) - before;
  const { events, ended } = await watchers.ask("told");
  const wanted = own ? 0 : puts * count;
  const row = {
    "puts/s": puts / seconds,
    "main thread us/put": micros / puts,
    MiB: ownMemory(child.pid),
    told: wanted === 0 ? 1 : (events - toldBefore) / wanted,
    ended: count === 0 ? 0 : ended,
  };
  if (count > 0) await watchers.ask("unwatch");
  return row;
}

/** Puts for some seconds, or each key once; returns the number of puts. */
async function put(forSeconds, keys) {
  const channels = Array.from({ length: CONNECTIONS }, () => openChannel(address));
  const clients = channels.map((channel) => channel.client(KeyValueService));
  const end = performance.now() + forSeconds * 1_000;
  let puts = 0;
  const caller = async (at) => {
    for (let next = at; keys === undefined ? performance.now() < end : next < keys; next += callers) {
      await clients[at % CONNECTIONS].put({ key: Buffer.from(`${PREFIX}${next % KEYS}`), value: VALUE });
      puts++;
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, at) => caller(at)));
  for (const channel of channels) channel.close();
  return puts;
}

/** CPU time of a process's main thread, whose id is the process's. */
function mainThreadMicros(pid) {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[0]) / 1_000;
}

/** Memory of a process, without mapped files. */
function ownMemory(pid) {
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;
}

function medians(rows) {
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  return Object.fromEntries(
    Object.keys(rows[0]).map((name) => [name, Number(median(rows.map((row) => row[name])).toFixed(2))]),
  );
}
