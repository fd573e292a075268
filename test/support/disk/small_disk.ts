import { spawnSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

const SMALL_DISK_BYTES = 16 * 1024 * 1024;

/** Path of a disk in memory that is gone when the test ends; undefined where this process may not make one. */
export function mountSmallDisk(): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return undefined;
  const path = mkdtempSync(join(tmpdir(), "cairn-small-disk-"));
  onTestFinished(() => rmdirSync(path));
  const options = ["-t", "tmpfs", "-o", `size=${SMALL_DISK_BYTES}`];
  if (spawnSync("mount", [...options, "tmpfs", path]).status !== 0) return undefined;
  onTestFinished(() => void spawnSync("umount", ["-l", path]));
  return path;
}

/** Fills the disk but for so many pages. */
export async function fillDisk(disk: string, pages: number): Promise<void> {
  await rm(`${disk}/filler`, { force: true });
  const { bavail, bsize } = await statfs(disk);
  await writeFile(`${disk}/filler`, Buffer.alloc((bavail - pages) * bsize));
}
