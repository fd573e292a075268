// Measures writes: what they cost each thread, what reaches the disk, and how much room the state takes.
import { decodeCommand } from "../../../dist/src/machine/kv/command.js";
import { keyspace } from "../../../dist/src/machine/store/keyspaces.js";
import { workerRunner } from "../../../dist/src/store/steps/worker_runner.js";
import { storeFactory } from "../../../dist/src/store/store.js";
import { nodeFileSystem } from "../../../dist/src/system/fs.js";
import { percentile } from "../../support/figures.mjs";
import { anonymousBytes, cpu, cpuSince, diskBytes, writtenBytes } from "./counters.mjs";
import { BATCH, KEY_BYTES, keyAt, overwritten, scattered } from "./keys.mjs";
import { rulesFor } from "./subject.mjs";

/** Entries are made in chunks of so many bytes: outside of the time that counts, and soon garbage. */
const CHUNK_BYTES = 4 << 20;
/** Flush sizes written before the puts that count: by then each table's memory was used once. */
const WARM_FLUSHES = 4;
/** A drained state is done with when its files are smaller than this, in flush sizes. */
const DRAINED_FLUSHES = 2;
const DRAIN_MS = 60_000;

/** Applies many entries; returns what each cost. `make(first, count)`: batches of entries. */
async function applyMany(subject, count, make, { logged = false, sample = () => {} } = {}) {
  const chunk = Math.max(BATCH, Math.floor(CHUNK_BYTES / subject.entryBytes));
  const used = { main: 0, worker: 0, others: 0 };
  let ms = 0;
  let peak = 0;
  subject.batchMicros = [];
  for (let done = 0; done < count; done += chunk) {
    const batches = make(subject.last + 1, Math.min(chunk, count - done));
    const before = cpu();
    const start = performance.now();
    await subject.apply(batches, { logged });
    ms += performance.now() - start;
    for (const [name, micros] of Object.entries(cpuSince(before))) used[name] += micros;
    peak = Math.max(peak, anonymousBytes());
    sample();
  }
  // The rest of the steps belongs to these writes.
  const before = cpu();
  await subject.settle();
  for (const [name, micros] of Object.entries(cpuSince(before))) used[name] += micros;
  sample();
  return {
    batchMicros: percentile(subject.batchMicros, 0.5),
    mainMicros: used.main / count,
    workerMicros: used.worker / count,
    othersMicros: used.others / count,
    perSecond: (count * 1000) / ms,
    anonymousPeak: peak,
  };
}

/** Follows the space that the state takes. */
function follow(subject) {
  let [sum, samples, most] = [0, 0, 0];
  return {
    sample: () => {
      const bytes = diskBytes(subject.stateDirectory);
      sum += bytes;
      samples += 1;
      most = Math.max(most, bytes);
    },
    over: (bytes) => ({ diskAverage: sum / samples / bytes, diskPeak: most / bytes }),
  };
}

/** Applies entries with the log; returns, beside the cost, the bytes written and the space taken. */
async function writeMany(subject, count, make) {
  const { logBytes } = subject;
  const written = writtenBytes();
  const space = follow(subject);
  const costs = await applyMany(subject, count, make, { logged: true, sample: space.sample });
  const put = count * (KEY_BYTES + subject.valueBytes);
  return {
    ...costs,
    writtenPerByte: (writtenBytes() - written) / put,
    logPerByte: (subject.logBytes - logBytes) / put,
    ...space.over(subject.keys * (KEY_BYTES + subject.valueBytes)),
  };
}

/** Makes all keys, in an order that jumps about. */
export function fill(subject) {
  const next = each(scattered(subject.keys));
  return writeMany(subject, subject.keys, (first, count) => subject.entries.puts(first, count, next));
}

/** Overwrites keys. `bytes`: of records to write. */
export function overwrite(subject, { order, bytes }) {
  const next = overwritten(subject.keys, order);
  const count = Math.ceil(bytes / subject.entryBytes);
  return writeMany(subject, count, (first, some) => subject.entries.puts(first, some, next));
}

/** Overwrites random keys, without a log. */
export async function put(subject, { count, withId }) {
  const next = overwritten(subject.keys, "random");
  const make = (first, some) => subject.entries.puts(first, some, next, { withId });
  await applyMany(subject, warmPuts(subject), make);
  const costs = await applyMany(subject, count, make);
  await subject.skipLog();
  return costs;
}

/** Decodes the commands of puts, and nothing else. */
export function decode(subject, { count, withId }) {
  const next = overwritten(subject.keys, "random");
  const chunk = Math.floor(CHUNK_BYTES / subject.entryBytes);
  let micros = 0;
  for (let done = -chunk; done < count; done += chunk) {
    const batches = subject.entries.puts(1, chunk, next, { withId });
    const before = process.cpuUsage();
    for (const entries of batches)
      for (const { data } of entries) if (decodeCommand(data) === undefined) throw new Error();
    const { user, system } = process.cpuUsage(before);
    if (done >= 0) micros += user + system;
  }
  return { mainMicros: micros / (Math.ceil(count / chunk) * chunk) };
}

/** The same puts on a store without a machine above it, so that its part of the price shows. */
export async function putIntoStore(subject, { count }) {
  const { directory, flushBytes, entries } = subject;
  const options = { fs: nodeFileSystem, rules: rulesFor(flushBytes), runner: workerRunner };
  const engine = await storeFactory(options).open(`${directory}/engine`);
  const row = (n) => Buffer.concat([Buffer.of(keyspace.key), keyAt(n)]);
  const chunk = BATCH * Math.floor(CHUNK_BYTES / subject.entryBytes / BATCH);
  const next = overwritten(subject.keys, "random");
  let index = 0;
  let micros = 0;
  let counted = 0;
  const times = [];
  for (let done = -warmPuts(subject); done < count; done += chunk) {
    const rows = Array.from({ length: chunk }, () => row(next()));
    const before = cpu();
    for (let at = 0; at < chunk; at += BATCH) {
      const batchStart = performance.now();
      for (const key of rows.slice(at, at + BATCH)) {
        index += 1;
        engine.putBlind(key, entries.value, index, 0);
        if (engine.isDue) engine.freeze({ index, term: 1 }, new Uint8Array(0), false);
      }
      if (done >= 0) times.push((1000 * (performance.now() - batchStart)) / BATCH);
      await engine.settled(1);
    }
    const used = cpuSince(before);
    if (done >= 0) {
      micros += used.main;
      counted += chunk;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await engine.settled(0);
  await engine.crash();
  await nodeFileSystem.removeAll(`${directory}/engine`);
  return { batchMicros: percentile(times, 0.5), mainMicros: micros / counted };
}

/** Deletes all keys, and waits until the room is free, as a leader brings that about. */
export async function deleteAll(subject) {
  const next = each(scattered(subject.keys));
  const costs = await applyMany(subject, subject.keys, (first, count) => subject.entries.deletes(first, count, next));
  const before = diskBytes(subject.stateDirectory);
  const start = performance.now();
  let drains = 0;
  while ((subject.engine?.wantsDrain || subject.engine?.wantsFlush) && performance.now() - start < DRAIN_MS) {
    await subject.apply([subject.entries.flush(subject.last + 1, subject.engine.wantsDrain)]);
    await subject.settle();
    drains += 1;
  }
  const isSmall = () => diskBytes(subject.stateDirectory) < DRAINED_FLUSHES * subject.flushBytes;
  while (subject.engine !== undefined && !isSmall() && performance.now() - start < DRAIN_MS) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const drainMs = drains === 0 ? Number.NaN : performance.now() - start;
  await subject.skipLog();
  return { ...costs, before, after: diskBytes(subject.stateDirectory), drains, drainMs };
}

function warmPuts({ flushBytes, entryBytes }) {
  return Math.ceil((WARM_FLUSHES * flushBytes) / entryBytes);
}

function each(numberAt) {
  let at = 0;
  return () => numberAt(at++);
}
