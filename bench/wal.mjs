// Speed of the write-ahead log on this machine's disk: durable appends with and without filling ahead, opening, reading.
// npm run build && node bench/wal.mjs [DIRECTORY]: a directory on the disk to measure (default: the system's temporary one).
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { INITIAL_HARD_STATE, LOG_START } from "../dist/src/raft/types.js";
import { WriteAheadLog } from "../dist/src/storage/wal/wal.js";
import { nodeFileSystem } from "../dist/src/system/fs.js";

const MiB = 1024 * 1024;

function entriesFrom(low, count, bytes) {
  const data = new Uint8Array(bytes).fill(7);
  return Array.from({ length: count }, (_, at) => ({ index: low + at, term: 1, type: "command", data }));
}

function percentile(sorted, share) {
  return (sorted[Math.floor(share * (sorted.length - 1))] * 1000).toFixed(0);
}

async function measureAppends(directory, fillBytes, perBatch, bytes, batches) {
  const options = { fs: nodeFileSystem, directory: join(directory, `${fillBytes}-${perBatch}-${bytes}`), fillBytes };
  const log = await WriteAheadLog.create(options, LOG_START, INITIAL_HARD_STATE);
  const times = [];
  const cpu = process.cpuUsage();
  for (let batch = 0; batch < batches; batch++) {
    const entries = entriesFrom(1 + batch * perBatch, perBatch, bytes);
    const start = performance.now();
    await log.append({ entries, sync: true });
    times.push(performance.now() - start);
  }
  const used = process.cpuUsage(cpu);
  await log.close();
  const total = times.reduce((sum, time) => sum + time, 0);
  times.sort((one, other) => one - other);
  return {
    batch: `${perBatch} x ${bytes} B`,
    "fill KiB": fillBytes / 1024,
    "p50 us": percentile(times, 0.5),
    "p99 us": percentile(times, 0.99),
    "max us": percentile(times, 1),
    "entries/s": Math.round((batches * perBatch * 1000) / total),
    "MB/s": ((batches * perBatch * bytes) / total / 1000).toFixed(1),
    "CPU us/entry": ((used.user + used.system) / batches / perBatch).toFixed(1),
  };
}

async function measureOpening(directory, bytes, megabytes) {
  const options = { fs: nodeFileSystem, directory: join(directory, `open-${bytes}`) };
  const log = await WriteAheadLog.create(options, LOG_START, INITIAL_HARD_STATE);
  const count = Math.floor((megabytes * MiB) / bytes);
  const perBatch = Math.floor(MiB / bytes);
  for (let low = 1; low + perBatch <= count; low += perBatch) {
    await log.append({ entries: entriesFrom(low, perBatch, bytes), sync: false });
  }
  await log.close();
  const start = performance.now();
  const { log: opened } = await WriteAheadLog.open(options);
  const open = performance.now() - start;
  for (let low = 1; low <= opened.last.index; ) low += (await opened.entries(low, opened.last.index, MiB)).length;
  const read = performance.now() - start - open;
  await opened.close();
  return { entries: `${count} x ${bytes} B`, "open ms": open.toFixed(0), "read all ms": read.toFixed(0) };
}

const directory = await mkdtemp(join(process.argv[2] ?? tmpdir(), "cairn-bench-wal-"));
try {
  const appends = [];
  for (const [perBatch, bytes, batches] of [
    [1, 4000, 1500],
    [1, 256, 1500],
    [64, 256, 1000],
    [1000, 256, 200],
    [1, MiB, 60],
  ]) {
    for (const fillBytes of [0, 256 * 1024]) {
      appends.push(await measureAppends(directory, fillBytes, perBatch, bytes, batches));
    }
  }
  console.table(appends);
  console.table([await measureOpening(directory, 256, 128), await measureOpening(directory, 4096, 128)]);
} finally {
  await rm(directory, { recursive: true });
}
