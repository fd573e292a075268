import { readFileSync } from "node:fs";
import { totalmem } from "node:os";

/** Limits that the system sets to this process. Undefined where the system does not tell. */
export interface ProcessLimits {
  /** Of the container, or else of the machine. */
  readonly memoryLimitBytes: number | undefined;
  /** Number of files that the process may have open. */
  readonly openFilesLimit: number | undefined;
}

let known: ProcessLimits | undefined;

/** Returns the limits of this process, as they were when this was first called. */
export function processLimits(): ProcessLimits {
  known ??= { memoryLimitBytes: memoryLimitBytes(), openFilesLimit: openFilesLimit() };
  return known;
}

function memoryLimitBytes(): number {
  const machine = totalmem();
  // Without a limit, it is 0, or a number above what any machine has.
  const container = process.constrainedMemory();
  return container > 0 ? Math.min(container, machine) : machine;
}

function openFilesLimit(): number | undefined {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}
