import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";

/** Whether the system tells what its processes use. */
export const hasProc = existsSync("/proc/self/status") && existsSync("/proc/self/fd");

/** Why a test that needs it is skipped. */
export const NO_PROC = "skipped: there is no /proc here to tell what a process uses";

/** The most memory that a process has had resident so far, in bytes; pages of mapped files count. */
export async function peakResidentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
  if (kilobytes === undefined) throw new Error(`/proc/${pid}/status has no VmHWM:\n${status}`);
  return Number(kilobytes) * 1024;
}

export interface FilesInUse {
  readonly descriptors: number;
  /** Mapped parts of LMDB files, also of those that were removed since. */
  readonly mapped: number;
}

export async function filesInUse(pid: number): Promise<FilesInUse> {
  const maps = await readFile(`/proc/${pid}/maps`, "utf8");
  return {
    descriptors: (await readdir(`/proc/${pid}/fd`)).length,
    mapped: maps.split("\n").filter((line) => line.includes(".mdb")).length,
  };
}
