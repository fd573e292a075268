// Measures what the page of a node costs the node: CPU time of the leader of three nodes under a moderate load, without viewers, with
// ten event streams, and with ten pages that also look at keys and leases, in turns.
//
//   node bench/page.mjs [--rounds 5] [--seconds 15] [--rate 200] [--viewers 10]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { CairnClient } from "../dist/src/client.js";
import { cpuMs } from "./support/cairn_process.mjs";
import { median, sleep } from "./support/figures.mjs";
import { freePorts } from "./support/free_ports.mjs";

const COMMAND = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
/** As often as a page looks at keys that change, and at leases every so many times (src/page/browser.ts). */
const LOOK_MS = 2_000;
const LOOKS_A_LEASE_LOOK = 3;

const text = (value) => ({ type: "string", default: value });
const { values } = parseArgs({
  options: { rounds: text("5"), seconds: text("15"), rate: text("200"), viewers: text("10") },
});
const [rounds, seconds, rate, viewers] = ["rounds", "seconds", "rate", "viewers"].map((name) => Number(values[name]));

const directory = mkdtempSync(join(tmpdir(), "cairn-bench-"));
const nodes = await startNodes();
const client = new CairnClient({ endpoints: nodes.map(({ address }) => address) });
try {
  await measure();
} finally {
  await client.close();
  for (const { child } of nodes) child.kill("SIGKILL");
  await Promise.all(nodes.map(({ exited }) => exited));
  rmSync(directory, { recursive: true, force: true });
}

async function measure() {
  for (let at = 0; at < 200; at++) await client.put(`key/${at}`, "v".repeat(100));
  const leader = await leaderOf();
  const load = setInterval(
    () => void client.put(`key/${Math.floor(Math.random() * 200)}`, "v".repeat(100)),
    1_000 / rate,
  );
  const phases = { none: [], streams: [], pages: [] };
  // The code is compiled, and the libraries are loaded, before anything counts.
  for (const kind of Object.keys(phases)) await phase(leader, kind, 3);
  const before = await metric(leader, "cairn_applied_entries_total");
  const began = performance.now();
  for (let round = 0; round < rounds; round++) {
    for (const kind of Object.keys(phases)) phases[kind].push(await phase(leader, kind, seconds));
  }
  const writes =
    ((await metric(leader, "cairn_applied_entries_total")) - before) / ((performance.now() - began) / 1_000);
  clearInterval(load);
  const scrapeMs = await scrape(leader);
  const quiet = median(phases.none.map(({ percent }) => percent));
  console.table(
    Object.entries(phases).map(([kind, found]) => ({
      viewers: { none: "none", streams: `${viewers} event streams`, pages: `${viewers} pages with keys` }[kind],
      "leader, % of a core": median(found.map(({ percent }) => percent)).toFixed(2),
      "more, % of a core": (median(found.map(({ percent }) => percent)) - quiet).toFixed(2),
      // Of neighbours in time: the machine's speed drifts.
      "pairs, % of a core": median(found.map(({ percent }, at) => percent - phases.none[at].percent)).toFixed(2),
      "others, % of a core each": median(found.map(({ others }) => others)).toFixed(2),
    })),
  );
  console.log(
    `${writes.toFixed(0)} writes a second; ${rounds} rounds of ${seconds} s each; a scrape takes ${scrapeMs.toFixed(2)} ms of CPU`,
  );
  console.log(
    `${cpus().length} cores; load average of the machine ${loadavg()
      .map((each) => each.toFixed(1))
      .join(", ")}`,
  );
}

/** CPU time of the leader while so many look, in per cent of a core. */
async function phase(leader, kind, length) {
  const over = new AbortController();
  const opened = kind === "none" ? [] : Array.from({ length: viewers }, () => view(leader, kind, over.signal));
  await Promise.all(opened.map(({ open }) => open));
  await sleep(500);
  const others = nodes.filter((node) => node !== leader);
  const used = () => [leader, ...others].map(({ child }) => cpuMs(child.pid));
  const [before, began] = [used(), performance.now()];
  await sleep(length * 1_000);
  const ms = performance.now() - began;
  const [own, ...rest] = used().map((each, at) => ((each - before[at]) * 100) / ms);
  over.abort();
  const seen = await Promise.all(opened.map(({ done }) => done));
  if (seen.some((bytes) => bytes === 0)) throw new Error("a viewer saw nothing");
  return { percent: own, others: rest.reduce((sum, each) => sum + each, 0) / rest.length };
}

function view({ http }, kind, signal) {
  const opening = fetch(`${http}/feed`, { signal });
  const read = async () => {
    let bytes = 0;
    let looks = 0;
    const look = (path) => fetch(`${http}/${path}`).then((answer) => answer.text());
    const looking =
      kind === "pages" &&
      setInterval(() => {
        void look("keys?prefix=&after=");
        if (looks++ % LOOKS_A_LEASE_LOOK === 0) void look("leases");
      }, LOOK_MS);
    try {
      for await (const chunk of (await opening).body) bytes += chunk.byteLength;
    } catch {
      // The phase is over.
    }
    clearInterval(looking);
    return bytes;
  };
  return { open: opening, done: read() };
}

/** CPU time of the node for one scrape of its metrics, in ms. */
async function scrape(node) {
  const scrapes = 200;
  await metric(node, "cairn_raft_term");
  const before = cpuMs(node.child.pid);
  for (let at = 0; at < scrapes; at++) await (await fetch(`${node.http}/metrics`)).text();
  return (cpuMs(node.child.pid) - before) / scrapes;
}

async function metric({ http }, name) {
  const lines = (await (await fetch(`${http}/metrics`)).text()).split("\n");
  return Number(lines.find((line) => line.startsWith(`${name} `))?.split(" ")[1]);
}

async function leaderOf() {
  for (;;) {
    for (const node of nodes) {
      const answer = await (await fetch(`${node.http}/metrics`)).text();
      if (answer.includes('cairn_raft_role{role="leader"} 1')) return node;
    }
    await sleep(100);
  }
}

async function startNodes() {
  const ports = await freePorts(3);
  const founders = ports.map((port, at) => `n${at + 1}=127.0.0.1:${port}`).join(",");
  return Promise.all(
    ports.map(async (port, at) => {
      const id = `n${at + 1}`;
      const args = ["start", "--id", id, "--data", join(directory, id), "--cluster", founders, "--http", "127.0.0.1:0"];
      const child = spawn(process.execPath, [COMMAND, ...args, "--json"], { stdio: ["ignore", "pipe", "inherit"] });
      const exited = once(child, "exit");
      for await (const line of createInterface({ input: child.stdout })) {
        const { event, url } = JSON.parse(line);
        if (event === "http") {
          child.stdout.resume();
          return { id, address: `127.0.0.1:${port}`, child, exited, http: url };
        }
      }
      throw new Error(`${id} has ended before it served HTTP`);
    }),
  );
}
