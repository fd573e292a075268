// Makes calls from one process through a client library (CairnClient, or the npm package etcd3), or
// as unary calls of grpc-js.
import { createRequire } from "node:module";
import { serveTasks } from "../tasks.mjs";
import { OpenLoop } from "./open_loop.mjs";
import { NodeConnection } from "./protocols.mjs";

/** Of unary calls of grpc-js, over all endpoints: as many as the load generator has. */
const CONNECTIONS = 8;
const UNARY_TIMEOUT_MS = 20_000;
const FILL_ATTEMPTS = 10;

let library;
let loop;

serveTasks({
  async open({ name, endpoints, packageFile }) {
    library = await { cairn: openCairn, etcd3: openEtcd3, unary: openUnary }[name](endpoints, packageFile);
  },
  run: (plan) => run(plan),
  /** Begins puts at a fixed rate; `interval` tells the figures since the last one. */
  openLoop({ rate, valueBytes, keys, prefix }) {
    const value = randomValue(valueBytes);
    loop = new OpenLoop(rate, () => library.put(nameOf(prefix, Math.floor(Math.random() * keys)), value));
  },
  interval: () => loop.interval(),
  async close() {
    loop?.stop();
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

/** Unary calls to Cairn, each on the next connection. */
function openUnary(endpoints) {
  const each = Math.ceil(CONNECTIONS / endpoints.length);
  const connections = endpoints.flatMap((address) =>
    Array.from({ length: each }, () => new NodeConnection("cairn", address)),
  );
  let turn = 0;
  const next = () => connections[turn++ % connections.length];
  return {
    put: (key, value) => next().put(key, value, UNARY_TIMEOUT_MS),
    get: (key) =>
      next()
        .get(key, UNARY_TIMEOUT_MS)
        .then(() => key),
    close() {
      for (const connection of connections) connection.close();
    },
  };
}

function randomValue(bytes) {
  const value = Buffer.alloc(bytes);
  crypto.getRandomValues(value.subarray(0, Math.min(bytes, 65_536)));
  return value;
}

function nameOf(prefix, number) {
  return prefix + String(number).padStart(8, "0");
}

/**
 * Does what the load generator's closed loop does, and answers with the same figures. A fill begins
 * at `first`.
 */
async function run({ op, callers, seconds, warm, valueBytes, keys, prefix, first = 0 }) {
  const value = randomValue(valueBytes);
  const cpu = process.cpuUsage();
  const started = performance.now();
  const from = started + warm * 1000;
  const until = from + seconds * 1000;
  const took = [];
  const done = { calls: 0, puts: 0, inTime: 0, errors: 0, firstError: undefined };
  let next = first;

  const caller = async () => {
    for (;;) {
      const began = performance.now();
      const number = op === "fill" ? next++ : Math.floor(Math.random() * keys);
      if (op === "fill" ? number >= keys : began >= until) return;
      const isPut = op === "put" || op === "fill" || (op === "mixed" && Math.random() < 0.1);
      try {
        if (op === "fill") await putAtLast(nameOf(prefix, number), value);
        else await call(isPut ? "put" : op === "stale" ? "stale" : "get", nameOf(prefix, number), value);
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

/** Puts a key of a fill, which later gets must find: a put that fails is made again. */
async function putAtLast(key, value) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await library.put(key, value);
    } catch (error) {
      if (attempt === FILL_ATTEMPTS) throw error;
    }
  }
}

async function call(kind, key, value) {
  const answer = await library[kind](key, value);
  if (kind !== "put" && (answer === null || answer === undefined)) throw new Error("the key was not found");
}
