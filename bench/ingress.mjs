// CPU time of a node's main thread for a unary call, at the node's own port and through ingress processes.
//
//   npm run build && node bench/ingress.mjs [--processes 2] [--nodes 1] [--callers 128] [--seconds 3] [--rounds 3] [--load PATH]
//
// The clients' calls go to the leader of a cluster of --nodes, whose nodes are processes of their own. The two ports take turns within a
// round, so that a machine that slows down slows both. The callers run in this process, over 8 connections, each making its next call
// when it has the answer to the last one. --load PATH is a built bench/compare/go/load, which leaves more of the machine to the servers.
// Values have 256 bytes. Medians of the rounds. Linux only: /proc tells the time of threads.
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { AdminService } from "../dist/gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../dist/src/rpc/client.js";
import { freePorts } from "./support/free_ports.mjs";

const COMMAND = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const CONNECTIONS = 8;
const KEYS = 10_000;
const VALUE = Buffer.alloc(256, "v");
const WARM_SECONDS = 1;

const { values: given } = parseArgs({
  options: {
    processes: { type: "string", default: "2" },
    nodes: { type: "string", default: "1" },
    callers: { type: "string", default: "128" },
    seconds: { type: "string", default: "3" },
    rounds: { type: "string", default: "3" },
    load: { type: "string" },
  },
});
const [processes, nodes, callers, seconds, rounds] = ["processes", "nodes", "callers", "seconds", "rounds"].map(
  (name) => Number(given[name]),
);
const directory = mkdtempSync(join(tmpdir(), "cairn-bench-"));
const running = [];
try {
  await startCluster();
  const leader = await leaderOf();
  await run({ address: leader.listen, op: "put" }, 2, KEYS);
  const ports = { "node's own": leader.listen, ingress: leader.ingress };
  const found = new Map();
  for (let round = 0; round < rounds; round++) {
    for (const op of ["put", "get", "stale"]) {
      for (const [port, address] of Object.entries(ports)) {
        const row = await measure({ op, address }, leader.pid);
        const name = `${op}, ${port} port`;
        found.set(name, [...(found.get(name) ?? []), row]);
      }
    }
  }
  console.log(
    `${callers} callers (${given.load ? "Go" : "Node.js"}), ${nodes} node(s), ${processes} ingress process(es), medians of ${rounds} rounds`,
  );
  console.table(Object.fromEntries([...found].map(([name, rows]) => [name, medians(rows)])));
} finally {
  for (const each of running) each.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
}

async function startCluster() {
  const ports = await freePorts(nodes);
  const list = ports.map((port, at) => `n${at + 1}=127.0.0.1:${port}`).join(",");
  const started = ports.map(async (port, at) => {
    const [id, listen] = [`n${at + 1}`, `127.0.0.1:${port}`];
    const args = ["start", "--id", id, "--data", join(directory, id), "--cluster", list, "--json"];
    const child = spawn(
      process.execPath,
      [COMMAND, ...args, "--ingress", `${processes}`, "--ingress-listen", "127.0.0.1:0"],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    running.push(child);
    for await (const line of createInterface({ input: child.stdout })) {
      const { event, address } = JSON.parse(line);
      if (event === "ingress") return Object.assign(child, { listen, ingress: address });
    }
    throw new Error(`${id} has ended`);
  });
  await Promise.all(started);
}

async function leaderOf() {
  const channel = openChannel(running[0].listen);
  try {
    for (;;) {
      const { leaderId } = await channel.client(AdminService).getStatus({});
      if (leaderId !== "") return running[Number(leaderId.slice(1)) - 1];
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } finally {
    channel.close();
  }
}

/** One figure: calls a second, and the CPU time of each part for a call. */
async function measure(work, pid) {
  await run(work, WARM_SECONDS);
  const inFront = childrenOf(pid);
  const before = [mainThreadMicros(pid), processMicros(pid), sum(inFront.map(processMicros))];
  const calls = await run(work, seconds);
  const after = [mainThreadMicros(pid), processMicros(pid), sum(inFront.map(processMicros))];
  const [main, node, ingress] = after.map((micros, at) => (micros - before[at]) / calls);
  return { "calls/s": calls / seconds, "main thread us": main, "node us": node, "ingress us": ingress };
}

/** Makes calls for some seconds, or each key's first put; returns how many were answered. */
async function run({ address, op }, forSeconds, keys) {
  if (given.load !== undefined) {
    const what = keys === undefined ? op : "fill";
    const args = ["-system", "cairn", "-endpoints", address, "-op", what, "-callers", `${callers}`, "-keys", `${KEYS}`];
    const { stdout } = await promisify(execFile)(given.load, [...args, "-warm", "0", "-seconds", `${forSeconds}`]);
    return JSON.parse(stdout).calls;
  }
  const channels = Array.from({ length: CONNECTIONS }, () => openChannel(address));
  const clients = channels.map((channel) => channel.client(KeyValueService));
  const end = performance.now() + forSeconds * 1_000;
  let calls = 0;
  const caller = async (at) => {
    const kv = clients[at % CONNECTIONS];
    for (let next = at; keys === undefined ? performance.now() < end : next < keys; next += callers) {
      const key = Buffer.from(`key${next % KEYS}`);
      if (op === "put") await kv.put({ key, value: VALUE });
      else await kv.get({ key, stale: op === "stale" });
      calls++;
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, at) => caller(at)));
  for (const channel of channels) channel.close();
  return calls;
}

/** CPU time of a process's main thread, whose id is the process's. */
function mainThreadMicros(pid) {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[0]) / 1_000;
}

/** CPU time of all threads of a process. */
function processMicros(pid) {
  const threads = readdirSync(`/proc/${pid}/task`);
  return (
    sum(threads.map((id) => Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, "utf8").split(" ")[0]))) / 1_000
  );
}

function childrenOf(pid) {
  return readdirSync("/proc").filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return Number(/\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, "utf8"))?.[1]) === pid;
    } catch {
      return false;
    }
  });
}

function medians(rows) {
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  return Object.fromEntries(
    Object.keys(rows[0]).map((name) => [name, Number(median(rows.map((row) => row[name])).toFixed(1))]),
  );
}

function sum(values) {
  return values.reduce((total, each) => total + each, 0);
}
