// Describes the machine that a benchmark runs on, for readers of its figures.
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { join } from "node:path";
import { median } from "./statistics.mjs";

const SYNCS = 100;
const FILE_SYSTEMS = new Map([
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x01021994, "tmpfs"],
  [0x794c7630, "overlay"],
]);

/** `data` is the directory that the clusters write to. */
export function describeMachine(data) {
  const [{ model = "unknown processor" } = {}] = cpus();
  return {
    processor: `${cpus().length} x ${model.trim()}`,
    memoryBytes: totalmem(),
    system: `${type()} ${release()}`,
    node: process.version,
    fileSystem: FILE_SYSTEMS.get(statfsSync(data).type) ?? "another file system",
    syncMs: syncMs(data),
  };
}

/** Median time of an append of 4 KiB with fdatasync, in milliseconds. */
function syncMs(data) {
  const directory = mkdtempSync(join(data, "cairn-bench-sync-"));
  const file = openSync(join(directory, "file"), "w");
  try {
    const block = Buffer.alloc(4096, 1);
    const times = Array.from({ length: SYNCS }, () => {
      const started = performance.now();
      writeSync(file, block);
      fdatasyncSync(file);
      return performance.now() - started;
    });
    return median(times);
  } finally {
    closeSync(file);
    rmSync(directory, { recursive: true });
  }
}
