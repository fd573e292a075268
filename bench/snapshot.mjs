// Whether anybody notices that a snapshot is taken: latency of writes, stalls of the node's main thread, speed and memory.
//
//   npm run build && node bench/snapshot.mjs [--gib 1] [--value-bytes 1024] [--callers 32] [--rounds 3] [DIRECTORY]
//
// One node, the only voter, in a process of its own, holds a state of --gib GiB (default 0.125). --callers callers of this process put
// random ones of its keys over gRPC, one call each in flight. In each round: a bare write of as many bytes to the same disk, a
// snapshot without load, writes without a snapshot, writes during one. DIRECTORY: on the disk to measure (default: the system's
// temporary one).
import { fork } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { openChannel } from "../dist/src/transport/bridge_client.js";

const GiB = 1024 * 1024 * 1024;
const KEY_BYTES = 16;
const WARM_UP_MS = 2_000;
/** Without a snapshot, writes are measured for so long in each round, at least. */
const QUIET_MS = 4_000;
const MEMORY_SAMPLE_MS = 50;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    gib: { type: "string", default: "0.125" },
    "value-bytes": { type: "string", default: "1024" },
    callers: { type: "string", default: "32" },
    rounds: { type: "string", default: "3" },
  },
});
const valueBytes = Number(values["value-bytes"]);
const callers = Number(values.callers);
const rounds = Number(values.rounds);
const keys = Math.ceil((Number(values.gib) * GiB) / (KEY_BYTES + valueBytes));

const directory = mkdtempSync(join(positionals[0] ?? tmpdir(), "cairn-bench-snapshot-"));
const node = await startNode();
const memory = watchMemory(node.pid);
try {
  await run();
} finally {
  memory.stop();
  node.kill();
  rmSync(directory, { recursive: true, force: true });
}

async function run() {
  const filled = performance.now();
  await node.ask("fill", { keys, valueBytes });
  console.log(`${keys} keys of ${valueBytes} bytes, filled in ${seconds(performance.now() - filled)}`);
  const channel = openChannel(node.address);
  const load = startLoad(channel.client(KeyValueService));
  await sleep(WARM_UP_MS);
  await load.pause();

  const quiet = emptyPhase();
  const during = emptyPhase();
  const idle = { takes: [], bare: [], worstMs: [] };
  // The first one makes the snapshot's size known.
  let { bytes } = await node.ask("take");
  memory.reset();
  for (let round = 0; round < rounds; round++) {
    idle.bare.push(bytes / (await node.ask("writeBare", { bytes })).seconds);
    await load.for(100);
    const taken = await watched(() => node.ask("take"));
    bytes = taken.result.bytes;
    idle.takes.push(bytes / taken.result.seconds);
    idle.worstMs.push(taken.worstMs);

    add(quiet, load, await watched(() => load.for(QUIET_MS)));
    load.start();
    const busy = await watched(() => node.ask("take"));
    await load.pause();
    add(during, load, busy);
    during.speeds.push(busy.result.bytes / busy.result.seconds);
  }
  console.log(`snapshot of ${(bytes / 1e6).toFixed(0)} MB, ${callers} callers, ${rounds} rounds`);
  console.table([row("no snapshot", quiet), row("during a snapshot", during)]);
  const ratio = percentile(during.times, 0.99) / percentile(quiet.times, 0.99);
  console.log(`p99 of writes during a snapshot: ${ratio.toFixed(2)} times that without`);
  const [bare, taking] = [median(idle.bare), median(idle.takes)];
  console.log(
    `taking: ${megabytes(taking)} without load, ${megabytes(median(during.speeds))} under load; ` +
      `bare write of as many bytes: ${megabytes(bare)} (${(taking / bare).toFixed(2)} of it)`,
  );
  console.log(`longest delay of the event loop, snapshot without load: ${Math.max(...idle.worstMs).toFixed(1)} ms`);
  const restored = await watched(() => node.ask("restore"));
  console.log(
    `restoring: ${megabytes(bytes / restored.result.seconds)}, longest delay of the event loop ${restored.worstMs.toFixed(1)} ms`,
  );
  console.log(`peak memory of the node: ${memory.summary()}`);
  channel.close();
  await node.ask("stop");
}

function emptyPhase() {
  return { times: [], elapsedMs: 0, worstMs: 0, loopP99Ms: 0, speeds: [] };
}

/** What was measured in a phase of one round joins the same of the rounds before. */
function add(phase, load, { worstMs, p99Ms }) {
  const { times, elapsedMs } = load.taken();
  phase.times.push(...times);
  phase.elapsedMs += elapsedMs;
  phase.worstMs = Math.max(phase.worstMs, worstMs);
  phase.loopP99Ms = Math.max(phase.loopP99Ms, p99Ms);
}

function row(name, { times, elapsedMs, worstMs, loopP99Ms }) {
  return {
    writes: name,
    "writes/s": Math.round((times.length * 1000) / elapsedMs),
    "p50 ms": percentile(times, 0.5).toFixed(2),
    "p99 ms": percentile(times, 0.99).toFixed(2),
    "max ms": percentile(times, 1).toFixed(2),
    "loop p99 ms": loopP99Ms.toFixed(1),
    "loop max ms": worstMs.toFixed(1),
  };
}

/** Does something while the delays of the node's event loop are watched. */
async function watched(action) {
  await node.ask("watchDelays");
  const result = await action();
  return { result, ...(await node.ask("worstDelay")) };
}

/** Callers that put random keys while they are not paused. */
function startLoad(client) {
  const value = new Uint8Array(valueBytes).fill(9);
  let running;
  let times = [];
  let elapsedMs = 0;
  const call = async (until) => {
    while (!until.reached) {
      const key = Buffer.from(`key-${String(Math.floor(Math.random() * keys)).padStart(12, "0")}`);
      const started = performance.now();
      await client.put({ key, value });
      times.push(performance.now() - started);
    }
  };
  const start = () => {
    times = [];
    const until = { reached: false };
    running = { until, started: performance.now(), calls: Array.from({ length: callers }, () => call(until)) };
  };
  const pause = async () => {
    running.until.reached = true;
    elapsedMs = performance.now() - running.started;
    await Promise.all(running.calls);
  };
  start();
  return {
    start,
    pause,
    taken: () => ({ times, elapsedMs }),
    async for(ms) {
      start();
      await sleep(ms);
      await pause();
    },
  };
}

async function startNode() {
  const child = fork(fileURLToPath(new URL("snapshot_node.mjs", import.meta.url)), [directory]);
  let answered;
  child.on("message", ({ result, error }) => {
    if (error === undefined) answered.resolve(result);
    else answered.reject(new Error(error));
  });
  child.once("exit", (code, signal) => answered.reject(new Error(`the node has ended: ${code ?? signal}`)));
  const answer = () => new Promise((resolve, reject) => (answered = { resolve, reject }));
  const { address } = await answer();
  const ask = (task, fields = {}) => {
    child.send({ task, fields });
    return answer();
  };
  return { pid: child.pid, address, ask, kill: () => child.kill("SIGKILL") };
}

/** Samples what a process has in memory: of its own, and in all, where pages of the state's file count that the kernel can drop. */
function watchMemory(pid) {
  let own = 0;
  let all = 0;
  const timer = setInterval(() => {
    try {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      own = Math.max(own, kilobytes(status, "RssAnon"));
      all = Math.max(all, kilobytes(status, "VmRSS"));
    } catch {
      // The process is gone, or this system has no /proc.
    }
  }, MEMORY_SAMPLE_MS);
  return {
    reset() {
      own = 0;
      all = 0;
    },
    summary: () =>
      all === 0
        ? "unknown (this system has no /proc)"
        : `${(own / 1024).toFixed(0)} MiB of its own, ${(all / 1024).toFixed(0)} MiB with mapped pages of the state`,
    stop: () => clearInterval(timer),
  };
}

function kilobytes(status, field) {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1] ?? 0);
}

function percentile(times, share) {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
}

function median(numbers) {
  return percentile(numbers, 0.5);
}

function megabytes(bytesPerSecond) {
  return `${(bytesPerSecond / 1e6).toFixed(0)} MB/s`;
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
