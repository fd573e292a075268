// Makes calls through a client library from one process: CairnClient, or the npm package etcd3.
import { createRequire } from "node:module";
import { serveTasks } from "../tasks.mjs";

let library;

serveTasks({
  async open({ name, endpoints, packageFile }) {
    library = await { cairn: openCairn, etcd3: openEtcd3 }[name](endpoints, packageFile);
  },
  run: (plan) => run(plan),
  async close() {
    await library?.close();
    library = undefined;
  },
});

async function openCairn(endpoints) {
  const { CairnClient } = await import("../../../dist/src/client.js");
  const client = new CairnClient({ endpoints });
  return {
    put: (key, value) => client.put(key, value),
    get: (key) => client.get(key),
    stale: (key) => client.get(key, { stale: true }),
    close: () => client.close(),
  };
}

function openEtcd3(endpoints, packageFile) {
  const { Etcd3 } = createRequire(packageFile)("etcd3");
  const client = new Etcd3({ hosts: endpoints.map((endpoint) => `http://${endpoint}`) });
  return {
    put: (key, value) => client.put(key).value(value).exec(),
    get: (key) => client.get(key).buffer(),
    stale: (key) => client.get(key).serializable(true).buffer(),
    close: () => client.close(),
  };
}

/** Does what the load generator's closed loop does, and answers with the same figures. */
async function run({ op, callers, seconds, warm, valueBytes, keys, prefix }) {
  const value = Buffer.alloc(valueBytes);
  crypto.getRandomValues(value.subarray(0, Math.min(valueBytes, 65_536)));
  const cpu = process.cpuUsage();
  const started = performance.now();
  const from = started + warm * 1000;
  const until = from + seconds * 1000;
  const took = [];
  const done = { calls: 0, puts: 0, inTime: 0, errors: 0, firstError: undefined };
  let next = 0;

  const caller = async () => {
    for (;;) {
      const began = performance.now();
      const number = op === "fill" ? next++ : Math.floor(Math.random() * keys);
      if (op === "fill" ? number >= keys : began >= until) return;
      const isPut = op === "put" || op === "fill" || (op === "mixed" && Math.random() < 0.1);
      try {
        await call(isPut ? "put" : op === "stale" ? "stale" : "get", prefix + String(number).padStart(8, "0"), value);
      } catch (error) {
        done.errors++;
        done.firstError ??= String(error);
        await new Promise((resolve) => setTimeout(resolve, 10));
        continue;
      }
      const answered = performance.now();
      done.calls++;
      if (isPut) done.puts++;
      if (op === "fill" || began >= from) took.push(answered - began);
      if (answered >= from && answered <= until) done.inTime++;
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));

  const elapsed = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  if (took.length === 0) throw new Error(`no call was answered; first error: ${done.firstError}`);
  const sorted = Float64Array.from(took).sort();
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  const { inTime, ...counts } = done;
  const rate = op === "fill" ? took.length / elapsed : inTime / seconds;
  return {
    ...counts,
    rate,
    p50: at(0.5),
    p99: at(0.99),
    max: at(1),
    elapsed,
    callerMicros: (user + system) / done.calls,
    unsent: 0,
  };
}

async function call(kind, key, value) {
  const answer = await library[kind](key, value);
  if (kind !== "put" && (answer === null || answer === undefined)) throw new Error("the key was not found");
}
