import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { createHistogram } from "node:perf_hooks";

/** Bytes of one write: about as much as a few entries take. */
const WRITE_BYTES = 4096;

/** Bytes of the file, which is filled before the first write that counts, as a log segment is. */
const FILE_BYTES = 1024 * 1024;

/** Durations of small synced writes, in milliseconds. */
export interface SyncedWriteTimes {
  readonly writes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/**
 * Measures small synced writes to a file in a directory, which is removed afterwards.
 * @throws the system's own errors: ENOSPC on a full disk, EROFS, EACCES
 */
export async function measureDisk(
  directory: string,
  durationMs: number,
  onProgress: (doneMs: number) => void = () => {},
): Promise<SyncedWriteTimes> {
  const path = join(directory, `doctor-${process.pid}.probe`);
  const file = await open(path, "wx", 0o600);
  try {
    await file.write(Buffer.alloc(FILE_BYTES), 0, FILE_BYTES, 0);
    await file.datasync();
    const bytes = Buffer.alloc(WRITE_BYTES, 1);
    // In microseconds: a histogram takes whole numbers above 0.
    const histogram = createHistogram();
    const startedMs = performance.now();
    for (let at = 0; performance.now() - startedMs < durationMs; at = (at + WRITE_BYTES) % FILE_BYTES) {
      const beganMs = performance.now();
      await file.write(bytes, 0, WRITE_BYTES, at);
      await file.datasync();
      histogram.record(Math.max(1, Math.round((performance.now() - beganMs) * 1_000)));
      onProgress(performance.now() - startedMs);
    }
    const ms = (microseconds: number) => microseconds / 1_000;
    return {
      writes: histogram.count,
      p50Ms: ms(histogram.percentile(50)),
      p99Ms: ms(histogram.percentile(99)),
      maxMs: ms(histogram.max),
    };
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}
