// Cost of an access file: CPU time of a node's main thread for a unary put, without one and with one.
//
//   npm run build && node bench/access.mjs [--callers 64] [--seconds 3] [--rounds 5]
//
// Three nodes, each a process alone in its cluster: one without an access file, one whose file gives the caller all keys, and one whose
// file has 200 callers and gives this one ten prefixes, the last of which fits. All are sent the same calls, with the same token, over 8
// connections; they take turns within a round. Values have 256 bytes. Medians of the rounds. Linux only: /proc tells the time of threads.
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Metadata } from "@grpc/grpc-js";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { ServerCallContext } from "../dist/src/rpc/call_context.js";
import { openChannel } from "../dist/src/rpc/client.js";
import { AccessControl } from "../dist/src/server/access/access_control.js";
import { requireRequest } from "../dist/src/server/access/checks.js";

const COMMAND = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const CONNECTIONS = 8;
const KEYS = 10_000;
const VALUE = Buffer.alloc(256, "v");
const WARM_SECONDS = 1;
const TOKEN = newToken();

const { values: given } = parseArgs({
  options: {
    callers: { type: "string", default: "64" },
    seconds: { type: "string", default: "3" },
    rounds: { type: "string", default: "5" },
  },
});
const [callers, seconds, rounds] = ["callers", "seconds", "rounds"].map((name) => Number(given[name]));
const directory = mkdtempSync(join(tmpdir(), "cairn-bench-"));
const running = [];
try {
  const nodes = {
    "no access file": await startNode("n1"),
    "all keys": await startNode("n2", [callerOf("app", TOKEN)]),
    "10 prefixes, 200 callers": await startNode("n3", [
      ...Array.from({ length: 199 }, (_, at) => callerOf(`c${at}`, newToken())),
      callerOf("app", TOKEN, [...Array.from({ length: 9 }, (_, at) => `kez${at}/`), "key"]),
    ]),
  };
  const found = new Map();
  for (let round = 0; round < rounds; round++) {
    for (const [name, node] of Object.entries(nodes))
      found.set(name, [...(found.get(name) ?? []), await measure(node)]);
  }
  console.log(`${callers} callers, medians of ${rounds} rounds of ${seconds} s`);
  console.table(Object.fromEntries([...found].map(([name, rows]) => [name, medians(rows)])));
  console.log(
    `the checks of one put, alone: ${checkNanos(join(directory, "n2.json"))} ns; with 10 prefixes: ${checkNanos(join(directory, "n3.json"))} ns`,
  );
} finally {
  for (const each of running) each.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
}

function newToken() {
  return randomBytes(32).toString("base64url");
}

function callerOf(name, token, prefixes) {
  const hash = createHash("sha256").update(token).digest("hex");
  return { name, tokens: [`sha256:${hash}`], grants: [{ role: "writer", ...(prefixes && { prefixes }) }] };
}

async function startNode(id, accessCallers) {
  const args = ["start", "--id", id, "--data", join(directory, id), "--listen", "127.0.0.1:0", "--json"];
  if (accessCallers !== undefined) {
    const file = join(directory, `${id}.json`);
    writeFileSync(file, JSON.stringify({ callers: accessCallers }));
    args.push("--access", file);
  }
  const child = spawn(process.execPath, [COMMAND, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  running.push(child);
  for await (const line of createInterface({ input: child.stdout })) {
    const { event, address } = JSON.parse(line);
    if (event === "listening") return { address, pid: child.pid };
  }
  throw new Error(`${id} has ended`);
}

/** One figure: puts a second, and the CPU time of the node's main thread for each. */
async function measure({ address, pid }) {
  await run(address, WARM_SECONDS);
  const before = mainThreadMicros(pid);
  const calls = await run(address, seconds);
  return { "puts/s": calls / seconds, "main thread us": (mainThreadMicros(pid) - before) / calls };
}

/** CPU time of all checks of a put, in nanoseconds, without the call around them. */
function checkNanos(file) {
  const access = AccessControl.open({ file });
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${TOKEN}`);
  const call = {
    metadata,
    getPath: () => "/cairn.v1.KeyValueService/Put",
    getPeer: () => "127.0.0.1:1",
    getDeadline: () => Number.POSITIVE_INFINITY,
    on: () => {},
  };
  const request = { case: "put", value: { key: Buffer.from("key1") } };
  const context = new ServerCallContext(call);
  const once = () => {
    access.admit(context, false);
    requireRequest(context, request);
  };
  const count = 300_000;
  for (let at = 0; at < count; at++) once();
  const start = process.cpuUsage();
  for (let at = 0; at < count; at++) once();
  const { user, system } = process.cpuUsage(start);
  access.close();
  return Math.round(((user + system) * 1_000) / count);
}

/** Makes puts for some seconds; returns how many were answered. */
async function run(address, forSeconds) {
  const channels = Array.from({ length: CONNECTIONS }, () => openChannel(address, { token: () => TOKEN }));
  const clients = channels.map((channel) => channel.client(KeyValueService));
  const end = performance.now() + forSeconds * 1_000;
  let calls = 0;
  const caller = async (at) => {
    for (let next = at; performance.now() < end; next += callers) {
      await clients[at % CONNECTIONS].put(
        { key: Buffer.from(`key${next % KEYS}`), value: VALUE },
        { timeoutMs: 30_000 },
      );
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

function medians(rows) {
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  return Object.fromEntries(
    Object.keys(rows[0]).map((name) => [name, Number(median(rows.map((row) => row[name])).toFixed(1))]),
  );
}
