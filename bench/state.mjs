// Speed of the state machine on LMDB, on the thread that calls it: microseconds of CPU for each
// put, get, and key of a range, and the time to open, which is mostly the proof that the file holds
// what was written. npm run build && node bench/state.mjs [KEYS]: how many keys the state has
// (default 100,000), of 256 bytes each.
//
// Puts come in batches of 64, as a node applies them. A figure is the median of its rounds, after a
// warm-up.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeCommand } from "../dist/src/machine/kv/command.js";
import { LmdbMachine } from "../dist/src/machine/lmdb_machine.js";
import { median } from "./support/figures.mjs";

const ROUNDS = 7;
const BATCH = 64;
const VALUE = new Uint8Array(256).fill(7);
const keys = Number(process.argv[2] ?? 100_000);
const perRound = Math.max(BATCH, Math.floor(Math.min(keys, 50_000) / BATCH) * BATCH);

const keyAt = (n) => Buffer.from(`user:${String(n % keys).padStart(12, "0")}`);
/** The keys in an order that jumps about. */
const scattered = (n) => keyAt(n * 7919);

/**
 * Applies so many commands in batches; their entries are made before the clock starts. Returns
 * microseconds for each.
 */
function applied(machine, count, commandAt) {
  const batches = [];
  for (let at = 0; at < count; at += BATCH) {
    const first = machine.appliedIndex + 1 + at;
    const length = Math.min(BATCH, count - at);
    batches.push(
      Array.from({ length }, (_, n) => {
        return { index: first + n, term: 1, type: "command", data: encodeCommand(commandAt(at + n)) };
      }),
    );
  }
  return cpuOf(count, () => {
    for (const entries of batches) machine.apply(entries);
  });
}

/** Microseconds of CPU for each of `count`. */
function cpuOf(count, action) {
  const before = process.cpuUsage();
  action();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

function putOf(key) {
  return { operation: { case: "put", value: { key, value: VALUE } } };
}

/** As of a client that has 128 writes in flight. */
function requestOf(key, sequence) {
  const acknowledgedThrough = BigInt(Math.max(0, sequence - 128));
  return { requestId: { clientId: "client-1", sequence: BigInt(sequence), acknowledgedThrough }, ...putOf(key) };
}

function rounds(measure) {
  measure();
  return median(Array.from({ length: ROUNDS }, measure)).toFixed(2);
}

const directory = await mkdtemp(join(tmpdir(), "cairn-bench-state-"));
try {
  let machine = await LmdbMachine.open({ directory });
  applied(machine, keys, (n) => putOf(keyAt(n)));
  const rows = [];
  let next = 0;
  let sequence = 0;
  const row = (what, measure) => rows.push({ what, "CPU us": rounds(measure) });
  row("put", () => applied(machine, perRound, () => putOf(scattered(next++))));
  row("put with a request id", () => applied(machine, perRound, () => requestOf(scattered(next++), ++sequence)));
  row("delete or put", () =>
    applied(machine, perRound, (n) => {
      const key = scattered(n >> 1);
      return n % 2 === 0 ? { operation: { case: "delete", value: { key } } } : putOf(key);
    }),
  );
  row("get", () =>
    cpuOf(perRound, () => {
      for (let n = 0; n < perRound; n++) machine.get(scattered(next++));
    }),
  );
  row("key of a range", () =>
    cpuOf(perRound, () => {
      let found = 0;
      for (const { version } of machine.range({ limit: perRound })) if (version > 0) found++;
      if (found !== perRound) throw new Error(`${found} keys were found`);
    }),
  );
  console.table(rows);
  const opened = [];
  for (let round = 0; round <= ROUNDS; round++) {
    await machine.close();
    const before = process.cpuUsage();
    machine = await LmdbMachine.open({ directory });
    const { user, system } = process.cpuUsage(before);
    if (machine.rebuilt) throw new Error(`the state was thrown away: ${machine.rebuildReason}`);
    opened.push((user + system) / 1000);
  }
  console.log(`opening ${keys} keys: ${median(opened).toFixed(1)} ms of CPU`);
  await machine.crash();
} finally {
  await rm(directory, { recursive: true, force: true });
}
