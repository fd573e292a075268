// Reads from /proc how much CPU, memory and disk this process has taken.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

const MICROS = 1e3;

/** Threads of this process by id, each with its CPU time so far in microseconds. */
function threads() {
  const times = new Map();
  for (const id of readdirSync("/proc/self/task")) {
    try {
      times.set(Number(id), Number(readFileSync(`/proc/self/task/${id}/schedstat`, "utf8").split(" ")[0]) / MICROS);
    } catch {
      // The thread has ended.
    }
  }
  return times;
}

/** The threads of the process before the state's worker thread starts: V8's and those of the pool. */
let first = new Set();

/** Call this when a state is open, and before it has written anything. */
export function noteThreads() {
  first = new Set(threads().keys());
}

/**
 * CPU microseconds so far: of the main thread; of threads that started after {@link noteThreads},
 * which are the state's workers; of all others, which compile, collect garbage, read and sync.
 */
export function cpu() {
  const used = { main: 0, worker: 0, others: 0 };
  for (const [id, micros] of threads()) {
    used[id === process.pid ? "main" : first.has(id) ? "others" : "worker"] += micros;
  }
  return used;
}

/** CPU microseconds since an earlier {@link cpu}. */
export function cpuSince(before) {
  const now = cpu();
  return Object.fromEntries(Object.keys(now).map((name) => [name, now[name] - before[name]]));
}

/**
 * Bytes that the process has given to the system to write. (`write_bytes` beside it counts pages
 * made dirty, and where a file system keeps large folios, as ext4 does from Linux 6.16 on, the
 * whole folio for each byte in it: for the log seven times what it writes.)
 */
export function writtenBytes() {
  return Number(/^wchar: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))[1]);
}

/** Anonymous memory now, in bytes. */
export function anonymousBytes() {
  return 1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))[1]);
}

/** Space that the files of a directory take on the disk. */
export function diskBytes(directory) {
  let bytes = 0;
  for (const name of readdirSync(directory, { recursive: true })) {
    // A file may be removed between the two calls.
    const stat = statSync(join(directory, name), { throwIfNoEntry: false });
    if (stat?.isFile()) bytes += stat.blocks * 512;
  }
  return bytes;
}
