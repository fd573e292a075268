// How many durable puts a second one process gets through the client, beside unary calls.
//
//   npm run build && node bench/client.mjs [SECONDS] [CALLERS]
//
// One single-voter node in a process of its own; CALLERS (default 128) callers, each of which makes its next call when it has the answer to
// the last one; values of 256 bytes; SECONDS (default 5) for each row, after one second that does not count. The processor time of both
// processes for each call stays true on a machine that has other work, too.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { KeyValueService } from "../dist/gen/cairn/v1/kv_pb.js";
import { CairnClient } from "../dist/src/client.js";
import { openChannel } from "../dist/src/rpc/client.js";

const COMMAND = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const VALUE = Buffer.alloc(256, "v");
const KEYS = 10_000;

const seconds = Number(process.argv[2] ?? 5);
const callers = Number(process.argv[3] ?? 128);
const directory = mkdtempSync(join(tmpdir(), "cairn-bench-"));
const args = ["start", "--id", "n1", "--data", join(directory, "n1"), "--listen", "127.0.0.1:0", "--json"];
const node = spawn(process.execPath, [COMMAND, ...args], { stdio: ["ignore", "pipe", "inherit"] });
try {
  const { value: line } = await createInterface({ input: node.stdout })[Symbol.asyncIterator]().next();
  const { address } = JSON.parse(line);
  const channel = openChannel(address);
  const unary = channel.client(KeyValueService);
  const client = new CairnClient({ endpoints: [address] });
  await client.put("first", "");
  const rows = [
    await measure("client put", (key) => client.put(key, VALUE)),
    await measure("unary put", (key) => unary.put({ key: Buffer.from(key), value: VALUE })),
    await measure("client get", (key) => client.get(key)),
    await measure("unary get", (key) => unary.get({ key: Buffer.from(key) })),
  ];
  console.log(`${callers} callers, ${seconds} s each, values of ${VALUE.byteLength} bytes, one single-voter node`);
  console.table(rows);
  const [client_, unary_] = rows;
  console.log(`puts through the client: ${(client_["calls/s"] / unary_["calls/s"]).toFixed(1)} times the unary ones`);
  await client.close();
  channel.close();
} finally {
  node.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
}

async function measure(call, make) {
  await run(1, make, []);
  const times = [];
  const [started, own, nodes] = [performance.now(), process.cpuUsage(), processorMs(node.pid)];
  await run(seconds, make, times);
  const elapsed = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(own);
  const micros = (value) => Number((value / times.length).toFixed(1));
  return {
    call,
    "calls/s": Math.round(times.length / elapsed),
    ...summary(times),
    "node us": micros((processorMs(node.pid) - nodes) * 1000),
    "caller us": micros(user + system),
  };
}

/** Processor time that a process has taken, in ms; not a number where there is no /proc. */
function processorMs(pid) {
  try {
    const [, , ...fields] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    return (Number(fields[9]) + Number(fields[10])) * 10;
  } catch {
    return Number.NaN;
  }
}

/** All callers call for a while. */
async function run(forSeconds, make, times) {
  const until = performance.now() + forSeconds * 1000;
  let next = 0;
  const caller = async () => {
    for (let at = performance.now(); at < until; ) {
      await make(`key-${next++ % KEYS}`);
      const answered = performance.now();
      times.push(answered - at);
      at = answered;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

function summary(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part) => Number((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0).toFixed(2));
  return { "p50 ms": at(0.5), "p99 ms": at(0.99), "max ms": at(1) };
}
