// What floods do to a node: its memory, whether it survives, and what a normal client notices.
//
//   npm run floods -- [--only NAME,NAME] [--seconds 6] [--heap 512] [--json FILE] [--list]
//
// Each attack meets real node processes of its own (one, or three, whose leader it attacks), with a heap of 512 MB, on the loopback
// interface. A normal client makes small puts and gets all the time, in a process of its own, as the attacker is. Memory is read from /proc
// every 50 ms. "own" is anonymous memory; "all" counts mapped pages of the state as well, which the kernel can drop.
import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { AdminService } from "../../dist/gen/cairn/v1/admin_pb.js";
import { CairnClient } from "../../dist/src/client.js";
import { openChannel } from "../../dist/src/rpc/client.js";
import { freePorts } from "../support/free_ports.mjs";
import { watchMemory } from "../support/memory.mjs";
import { attacks } from "./attacks.mjs";

const COMMAND = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const MiB = 1024 * 1024;
/** Time after an attack that counts as part of it. */
const BACKLOG_SECONDS = 2;
/** Time in which memory may come back, and the normal client its speed. */
const AFTER_SECONDS = 3;
/** An attacker that has not ended this long after its time is killed. */
const PATIENCE_SECONDS = 10;

/** All processes that run at present: none of them may outlive this one. */
const processes = new Set();
process.on("exit", () => {
  for (const child of processes) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

const { values: options } = parseArgs({
  options: {
    only: { type: "string" },
    seconds: { type: "string", default: "6" },
    heap: { type: "string", default: "512" },
    json: { type: "string" },
    flags: { type: "string", default: "" },
    list: { type: "boolean", default: false },
  },
});
const seconds = Number(options.seconds);
const names = options.only?.split(",") ?? Object.keys(attacks);
const unknown = names.filter((name) => !Object.hasOwn(attacks, name));
if (unknown.length > 0)
  throw new Error(`no such attack: ${unknown.join(", ")}. There are ${Object.keys(attacks).join(", ")}`);

if (options.list) for (const name of names) console.log(`${name.padEnd(14)}${attacks[name].about}`);
else await attackAll();

async function attackAll() {
  const rows = [];
  for (const name of names) {
    const row = await attack(name);
    rows.push({ name, ...row });
    if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(rows, null, 2));
    console.log(line({ name, ...row }));
  }
  console.table(
    Object.fromEntries(
      rows.map(({ name, memory, alive, client, factor }) => [
        name,
        {
          ...memory,
          alive,
          p50: text(client.during.p50),
          p99: text(client.during.p99),
          "p99 x": text(factor),
          errors: client.during.errors,
        },
      ]),
    ),
  );
}

async function attack(name) {
  const { nodes: count = 1, needs } = attacks[name];
  const directory = mkdtempSync(join(tmpdir(), "cairn-floods-"));
  const nodes = [];
  const helpers = [];
  try {
    nodes.push(...(await startNodes(count, directory)));
    const addresses = nodes.map(({ address }) => address);
    if (needs === "data") await fill(addresses[0]);
    const client = owned(fork(fileURLToPath(new URL("normal_client.mjs", import.meta.url)), [addresses.join(",")]));
    helpers.push(client);
    await once(client, "message");
    await pause(1);
    await figures(client);
    const target = await leaderOf(nodes);
    const memory = watchMemory(target.pid);
    await pause(3);
    const before = { own: memory.peaks.own, client: await figures(client), term: (await statusOf(target)).term };
    memory.reset();
    const program = fileURLToPath(new URL("attacker.mjs", import.meta.url));
    const stdio = ["ignore", "pipe", "inherit", "ipc"];
    const attacker = owned(fork(program, [name, target.address, String(seconds)], { stdio }));
    helpers.push(attacker);
    let printed = "";
    attacker.stdout.on("data", (bytes) => {
      printed += bytes;
    });
    const killer = setTimeout(() => attacker.kill("SIGKILL"), (seconds + PATIENCE_SECONDS) * 1000);
    await once(attacker, "exit");
    clearTimeout(killer);
    // A node may be busy with what has come for longer than the attack lasts.
    await pause(BACKLOG_SECONDS);
    const during = { ...memory.peaks, client: await figures(client) };
    await pause(AFTER_SECONDS);
    const last = memory.peaks;
    const peak = { own: Math.max(during.own, last.own), all: Math.max(during.all, last.all) };
    memory.reset();
    await pause(1);
    const after = { own: memory.peaks.own, client: await figures(client) };
    memory.stop();
    const alive = nodes.every((node) => !node.hasEnded);
    const elected = alive && (await statusOf(target).catch(() => before)).term !== before.term;
    return {
      memory: {
        "before MB": mb(before.own),
        "peak MB": mb(peak.own),
        "all MB": mb(peak.all),
        "after MB": mb(after.own),
      },
      alive: alive ? (elected ? "new term" : "yes") : "NO",
      client: { before: before.client, during: during.client, after: after.client },
      factor: during.client.p99 / before.client.p99,
      attacker: printed.trim(),
    };
  } finally {
    for (const helper of helpers) helper.kill("SIGKILL");
    for (const node of nodes) node.kill();
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

function owned(child) {
  processes.add(child);
  child.once("exit", () => processes.delete(child));
  return child;
}

async function startNodes(count, directory) {
  if (count === 1) return [await startNode("n1", join(directory, "n1"), "127.0.0.1:0", [])];
  const ports = await freePorts(count);
  const list = ports.map((port, at) => `n${at + 1}=127.0.0.1:${port}`).join(",");
  return Promise.all(
    ports.map((port, at) =>
      startNode(`n${at + 1}`, join(directory, `n${at + 1}`), `127.0.0.1:${port}`, ["--cluster", list]),
    ),
  );
}

async function startNode(id, data, listen, more) {
  const flags = options.flags === "" ? [] : options.flags.split(" ");
  const args = [
    COMMAND,
    "start",
    "--id",
    id,
    "--data",
    data,
    "--listen",
    listen,
    "--json",
    "--log-level",
    "error",
    ...more,
    ...flags,
  ];
  const stdio = ["ignore", "pipe", "inherit"];
  const child = owned(spawn(process.execPath, [`--max-old-space-size=${options.heap}`, ...args], { stdio }));
  const node = { pid: child.pid, address: undefined, hasEnded: false, kill: () => child.kill("SIGKILL") };
  child.once("exit", () => {
    node.hasEnded = true;
  });
  for await (const text of createInterface({ input: child.stdout })) {
    const { address } = JSON.parse(text);
    if (address === undefined) continue;
    node.address = address;
    child.stdout.resume();
    return node;
  }
  throw new Error(`node ${id} has ended`);
}

async function statusOf({ address }) {
  const channel = openChannel(address);
  try {
    return await channel.client(AdminService).getStatus({}, { timeoutMs: 20_000, waitForReady: true });
  } finally {
    channel.close();
  }
}

async function leaderOf(nodes) {
  for (;;) {
    const { leaderId } = await statusOf(nodes[0]);
    const leader = nodes.find((_, at) => `n${at + 1}` === leaderId);
    if (leader !== undefined) return leader;
    await pause(0.1);
  }
}

/** Writes 48 MiB and a snapshot of them. */
async function fill(address) {
  const client = new CairnClient({ endpoints: [address] });
  const value = Buffer.alloc(1.5 * MiB, "v");
  for (let at = 0; at < 32; at++) await client.put(`big/${at}`, value);
  await client.close();
  const channel = openChannel(address);
  await channel.client(AdminService).takeSnapshot({});
  channel.close();
}

async function figures(client) {
  client.send("figures");
  const [answer] = await once(client, "message");
  return answer;
}

function line({ name, memory, alive, client, factor, attacker }) {
  const { before, during, after } = client;
  const error = during.firstError === undefined ? "" : ` (${during.firstError.slice(0, 160)})`;
  const calls = `normal client p50/p99 ms ${text(before.p50)}/${text(before.p99)} -> ${text(during.p50)}/${text(during.p99)} (x ${text(factor)}), then ${text(after.p50)}/${text(after.p99)}; ${during.calls} calls, ${during.errors} errors${error}`;
  const mem = `own MB ${memory["before MB"]} -> ${memory["peak MB"]} -> ${memory["after MB"]}`;
  return `${name}: ${mem}; alive: ${alive}; ${calls}; attacker: ${attacker.slice(0, 300)}`;
}

function mb(kilobytes) {
  return Math.round(kilobytes / 1024);
}

function text(value) {
  return Number.isFinite(value) ? value.toFixed(1) : "-";
}

function pause(forSeconds) {
  return new Promise((resolve) => setTimeout(resolve, forSeconds * 1000));
}
