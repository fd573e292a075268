// Cost of TLS: puts and linearizable gets at the leader of a cluster with mutual TLS, beside one without.
//
//   npm run build && node bench/tls.mjs [--nodes 3] [--callers 1,32,128] [--seconds 2] [--rounds 5] [--connections 8]
//
// Both clusters run all the time, and take turns within a round, the first of them by turns: the speed of a machine drifts, so only pairs
// compare. The callers run in this process, over --connections connections, each making its next call when it has the answer to the last
// one. Values have 256 bytes. The tables show the medians of the rounds, and the median of the rounds' ratios with TLS : without.
// Also measured: time for a new connection and its first call, and, on Linux, CPU time of the leader's process for a call.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as grpc from "@grpc/grpc-js";
import { AdminService } from "../dist/gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../dist/src/rpc/client.js";
import { channelOptions } from "../dist/src/rpc/grpc_options.js";
import { freePorts } from "./support/free_ports.mjs";

const COMMAND = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
/** An address is no server name. */
const CHANNEL_OPTIONS = { ...channelOptions, "grpc.ssl_target_name_override": "localhost" };
const KEYS = 1_000;
const VALUE = Buffer.alloc(256, "v");
const WARM_SECONDS = 0.5;
const NEW_CONNECTIONS = 20;

const { values: given } = parseArgs({
  options: {
    nodes: { type: "string", default: "3" },
    callers: { type: "string", default: "1,32,128" },
    seconds: { type: "string", default: "2" },
    rounds: { type: "string", default: "5" },
    connections: { type: "string", default: "8" },
  },
});
const [nodes, seconds, rounds, connections] = ["nodes", "seconds", "rounds", "connections"].map((name) =>
  Number(given[name]),
);
const callers = given.callers.split(",").map(Number);
const directory = mkdtempSync(join(tmpdir(), "cairn-bench-"));
const running = [];
try {
  const sides = { tls: await startCluster("tls", makeCertificates()), plain: await startCluster("plain", undefined) };
  await run(sides.tls, "put", 32, 1);
  await run(sides.plain, "put", 32, 1);
  const rows = new Map();
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? ["tls", "plain"] : ["plain", "tls"];
    for (const op of ["put", "get"]) {
      for (const count of callers) {
        const pair = {};
        for (const side of order) pair[side] = await measure(sides[side], op, count);
        const name = `${op}, ${count} caller(s)`;
        rows.set(name, [...(rows.get(name) ?? []), pair]);
      }
    }
    const pair = {};
    for (const side of order) pair[side] = { p50: await newConnection(sides[side]) };
    rows.set("new connection", [...(rows.get("new connection") ?? []), pair]);
  }
  console.log(`${nodes} node(s) a cluster, ${connections} connections, medians of ${rounds} rounds of ${seconds} s`);
  console.table(Object.fromEntries([...rows].map(([name, pairs]) => [name, summary(pairs)])));
} finally {
  for (const each of running) each.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
}

/** Makes an authority, and a certificate for each node and for a client, with openssl. Returns the flags of a node, and a client's credentials. */
function makeCertificates() {
  const at = (name) => join(directory, name);
  const openssl = (...args) => execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=bench", "-days", "90");
  const issue = (name, names) => {
    openssl("req", ...key, "-keyout", at(`${name}.key`), "-out", at(`${name}.csr`), "-subj", `/CN=${name}`);
    writeFileSync(at("ext"), `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`);
    const by = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial", "-days", "90", "-extfile", at("ext")];
    openssl("x509", "-req", "-in", at(`${name}.csr`), "-out", at(`${name}.pem`), ...by);
  };
  for (let at = 1; at <= nodes; at++) issue(`n${at}`, `IP:127.0.0.1,DNS:localhost,URI:cairn://bench/node/n${at}`);
  issue("client", "DNS:client");
  const pems = ["ca.pem", "client.key", "client.pem"].map((name) => readFileSync(at(name)));
  return {
    flags: (id) => [
      ...["--tls-cert", at(`${id}.pem`), "--tls-key", at(`${id}.key`)],
      ...["--tls-client-ca", at("ca.pem"), "--tls-peer-ca", at("ca.pem")],
    ],
    settings: () => ({ credentials: grpc.credentials.createSsl(...pems), options: CHANNEL_OPTIONS }),
  };
}

/** Starts a cluster; returns its leader's process, channels to it, and a function that opens a further one. */
async function startCluster(name, tls) {
  const ports = await freePorts(nodes);
  const list = ports.map((port, at) => `n${at + 1}=127.0.0.1:${port}`).join(",");
  const started = ports.map(async (port, at) => {
    const id = `n${at + 1}`;
    const data = join(directory, name, id);
    const args = ["start", "--id", id, "--data", data, "--cluster", list, "--json", ...(tls?.flags(id) ?? [])];
    const child = spawn(process.execPath, [COMMAND, ...args], { stdio: ["ignore", "pipe", "inherit"] });
    running.push(child);
    for await (const line of createInterface({ input: child.stdout })) {
      if (JSON.parse(line).event === "listening") return { pid: child.pid, id, address: `127.0.0.1:${port}` };
    }
    throw new Error(`${id} has ended`);
  });
  const members = await Promise.all(started);
  const open = (address) => openChannel(address, tls?.settings());
  const leader = await leaderOf(members, open);
  const channels = Array.from({ length: connections }, () => open(leader.address));
  return {
    pid: leader.pid,
    open: () => open(leader.address),
    kvs: channels.map((each) => each.client(KeyValueService)),
  };
}

async function leaderOf(members, open) {
  for (;;) {
    const channel = open(members[0].address);
    try {
      const { leaderId } = await channel.client(AdminService).getStatus({}, { timeoutMs: 1_000 });
      const leader = members.find(({ id }) => id === leaderId);
      if (leader !== undefined) return leader;
    } catch {
      // Not yet.
    } finally {
      channel.close();
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function measure(side, op, count) {
  await run(side, op, count, WARM_SECONDS);
  const before = cpuMs(side.pid);
  const { calls, latencies, tookMs } = await run(side, op, count, seconds);
  const cpu = cpuMs(side.pid) - before;
  latencies.sort((a, b) => a - b);
  return { rate: (calls * 1_000) / tookMs, p50: latencies[Math.floor(calls / 2)], cpuUs: (cpu * 1_000) / calls };
}

async function run({ kvs }, op, count, forSeconds) {
  const latencies = [];
  const start = performance.now();
  const end = start + forSeconds * 1_000;
  await Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const kv = kvs[at % kvs.length];
      for (let next = at; performance.now() < end; next += count) {
        const key = Buffer.from(`key ${next % KEYS}`);
        const from = performance.now();
        if (op === "put") await kv.put({ key, value: VALUE });
        else await kv.get({ key });
        latencies.push(performance.now() - from);
      }
    }),
  );
  return { calls: latencies.length, latencies, tookMs: performance.now() - start };
}

/** Median time for a new connection with its first call, in milliseconds. */
async function newConnection({ open }) {
  const times = [];
  for (let at = 0; at < NEW_CONNECTIONS; at++) {
    const channel = open();
    const from = performance.now();
    await channel.client(KeyValueService).get({ key: Buffer.from("key 0") });
    times.push(performance.now() - from);
    channel.close();
  }
  return median(times);
}

function summary(pairs) {
  const show = (field, digits) =>
    pairs[0].tls[field] === undefined
      ? {}
      : {
          [`${field}, TLS`]: fixed(median(pairs.map(({ tls }) => tls[field])), digits),
          [`${field}, without`]: fixed(median(pairs.map(({ plain }) => plain[field])), digits),
          [`${field}, ratio`]: fixed(median(pairs.map(({ tls, plain }) => tls[field] / plain[field])), 2),
        };
  return { ...show("rate", 0), ...show("p50", 2), ...show("cpuUs", 0) };
}

function fixed(value, digits) {
  return Number(value.toFixed(digits));
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** CPU time of a process so far, in milliseconds; NaN where /proc does not tell. */
function cpuMs(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return Number.NaN;
  }
}
