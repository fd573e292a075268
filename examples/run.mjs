// Runs an example as three processes: node examples/run.mjs counter [--data <dir>] [--base-port 7201] [--every-ms 1000]
// A member that ends is started again. Ctrl-C stops all.
import { fork } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: "string" },
    "base-port": { type: "string", default: "7201" },
    "every-ms": { type: "string", default: "1000" },
  },
});
const [name = "counter"] = positionals;
const data = values.data ?? join("examples-data", name);
const ids = ["n1", "n2", "n3"];
const cluster = ids.map((id, at) => `${id}=127.0.0.1:${Number(values["base-port"]) + at}`).join(",");
const members = new Map();
let isStopping = false;

function start(id) {
  const args = ["--id", id, "--cluster", cluster, "--data", data, "--every-ms", values["every-ms"]];
  const member = fork(join(import.meta.dirname, name, "main.mjs"), args, { stdio: ["ignore", "pipe", "pipe", "ipc"] });
  members.set(id, member);
  console.log(`${id}: process ${member.pid}; kill -9 ${member.pid} does no harm`);
  for (const output of [member.stdout, member.stderr]) {
    createInterface(output).on("line", (line) => console.log(`${id}: ${line}`));
  }
  member.once("exit", async (code, signal) => {
    console.log(`${id}: ended with ${signal ?? code}`);
    members.delete(id);
    await sleep(1_000);
    if (!isStopping) start(id);
  });
}

for (const id of ids) start(id);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    isStopping = true;
    for (const member of members.values()) member.kill("SIGTERM");
  });
}
