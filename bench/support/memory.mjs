import { readFileSync } from "node:fs";

const MEMORY_SAMPLE_MS = 50;

/** Samples what a process has in memory: of its own, and in all, where pages of the state's file count that the kernel can drop.
 * `before`: the watch on the process that had this one's part before; its peaks count too. */
export function watchMemory(pid, before) {
  before?.stop();
  let { own, all } = before?.peaks ?? { own: 0, all: 0 };
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
    get peaks() {
      return { own, all };
    },
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
