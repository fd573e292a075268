import { statfs } from "node:fs/promises";
import { fromWriteError } from "../../../system/fs.js";
import { measureDisk, type SyncedWriteTimes } from "./disk_probe.js";
import { bytesText, type DoctorFinding, msText, ok, problem, warning } from "./findings.js";

/** Duration of the measurement of the disk, in milliseconds. */
const MEASURE_MS = 2_000;

/** Durations of synced writes that call for a look, and that are a problem, in milliseconds. */
const SLOW_MS = 10;
const SLOW_P99_MS = 100;
const STANDING_MS = 1_000;

/** Free space below which to act, in bytes, and as a part of the disk. */
const FREE_LEAST = 256e6;
const FREE_LOW = 2e9;
const FREE_PART = 0.1;

/** File systems by the numbers that statfs(2) gives them. */
const fileSystems: ReadonlyMap<
  number,
  { readonly name: string; readonly kind: "local" | "memory" | "network" | "layered" }
> = new Map([
  [0xef53, { name: "ext4", kind: "local" }],
  [0x58465342, { name: "xfs", kind: "local" }],
  [0x9123683e, { name: "btrfs", kind: "local" }],
  [0x2fc12fc1, { name: "zfs", kind: "local" }],
  [0xf2f52010, { name: "f2fs", kind: "local" }],
  [0x01021994, { name: "tmpfs", kind: "memory" }],
  [0x858458f6, { name: "ramfs", kind: "memory" }],
  [0x6969, { name: "nfs", kind: "network" }],
  [0xff534d42, { name: "cifs", kind: "network" }],
  [0xfe534d42, { name: "smb2", kind: "network" }],
  [0x65735546, { name: "fuse", kind: "network" }],
  [0x01021997, { name: "9p", kind: "network" }],
  [0x794c7630, { name: "overlayfs", kind: "layered" }],
]);

/** A disk as the system describes it. */
export interface DiskFigures {
  readonly type: number;
  readonly freeBytes: number;
  readonly sizeBytes: number;
}

/** Looks at the disk of a directory, and measures it for two seconds. */
export async function diskFindings(directory: string, onProgress?: (part: number) => void): Promise<DoctorFinding[]> {
  const { type, bavail, bsize, blocks } = await statfs(directory);
  const findings = spaceFindings({ type, freeBytes: bavail * bsize, sizeBytes: blocks * bsize });
  try {
    const pace = await measureDisk(directory, MEASURE_MS, (doneMs) => onProgress?.(doneMs / MEASURE_MS));
    return [...findings, paceFinding(pace)];
  } catch (error) {
    const reason = (fromWriteError(error, "writing") as Error).message;
    return [...findings, problem("disk", `cannot be written: ${reason}`, "A node that may not write here cannot run.")];
  }
}

/** Judges a file system and its free space. */
export function spaceFindings({ type, freeBytes, sizeBytes }: DiskFigures): DoctorFinding[] {
  const part = sizeBytes === 0 ? 1 : freeBytes / sizeBytes;
  const text = `${bytesText(freeBytes)} of ${bytesText(sizeBytes)} are free`;
  const advice = "Make room, or move the directory to a larger disk: a node on a full one refuses writes.";
  const space =
    freeBytes < FREE_LEAST
      ? problem("space", text, advice)
      : freeBytes < FREE_LOW && part < FREE_PART
        ? warning("space", text, advice)
        : ok("space", text);
  return [space, fileSystemFinding(type)];
}

function fileSystemFinding(type: number): DoctorFinding {
  const known = fileSystems.get(type);
  if (known === undefined) return ok("file system", `of type 0x${type.toString(16)}, which this does not know`);
  const { name, kind } = known;
  if (kind === "local") return ok("file system", name);
  if (kind === "memory") {
    return problem("file system", `${name}: all is lost when the machine stops`, "Put the data directory on a disk.");
  }
  if (kind === "layered") {
    const advice = "Mount a volume there: what a container writes to its own layers ends with it.";
    return warning("file system", `${name}: the layers of a container`, advice);
  }
  const advice = "Use a local disk: syncs over a network are slow, and some servers only promise them.";
  return warning("file system", `${name}: not a local disk`, advice);
}

/** Judges the durations of small synced writes. */
export function paceFinding({ writes, p50Ms, p99Ms, maxMs }: SyncedWriteTimes): DoctorFinding {
  const text = `${writes} synced writes of 4 KiB took ${msText(p50Ms)} (median), ${msText(p99Ms)} (99th percentile), ${msText(maxMs)} (longest)`;
  const advice = "Every write of the cluster waits for two disks or more. Use a local SSD that nothing else writes to.";
  if (p99Ms > STANDING_MS) {
    return problem("disk", text, `${advice} With syncs as long as an election timeout, members lose their leader.`);
  }
  return p50Ms > SLOW_MS || p99Ms > SLOW_P99_MS ? warning("disk", text, advice) : ok("disk", text);
}
