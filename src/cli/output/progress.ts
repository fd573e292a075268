/** How often the line is drawn again at most, in milliseconds. */
const REDRAW_MS = 100;

/** Of a rate and what is left before there is something to go by, in milliseconds. */
const SETTLE_MS = 500;

const MB = 1e6;

/** How far something has come. */
export interface Progress {
  /** Bytes that are done, of how many. */
  update(doneBytes: number, totalBytes: number): void;
  /** It is over, well or not: leaves an empty line behind for what is printed next. */
  end(): void;
}

export const noProgress: Progress = { update() {}, end() {} };

/** A line that is drawn again and again, on a terminal; anywhere else nothing. */
export function progressOn(stream: NodeJS.WriteStream): Progress {
  if (!stream.isTTY) return noProgress;
  const started = performance.now();
  let drawn = Number.NEGATIVE_INFINITY;
  return {
    update(doneBytes, totalBytes) {
      const now = performance.now();
      if (now - drawn < REDRAW_MS && doneBytes < totalBytes) return;
      drawn = now;
      stream.write(`\r${progressText(doneBytes, totalBytes, now - started)}\x1b[K`);
    },
    end() {
      if (drawn >= 0) stream.write("\r\x1b[K");
    },
  };
}

/** Per cent, megabytes, rate and time left: ` 42 %  420.0 of 1000.0 MB  105.0 MB/s  6 s left`. */
export function progressText(doneBytes: number, totalBytes: number, elapsedMs: number): string {
  const percent = totalBytes === 0 ? 100 : Math.floor((doneBytes * 100) / totalBytes);
  const parts = [
    `${String(percent).padStart(3)} %`,
    `${(doneBytes / MB).toFixed(1)} of ${(totalBytes / MB).toFixed(1)} MB`,
  ];
  if (elapsedMs >= SETTLE_MS && doneBytes > 0) {
    const bytesPerMs = doneBytes / elapsedMs;
    parts.push(`${((bytesPerMs * 1_000) / MB).toFixed(1)} MB/s`);
    parts.push(`${durationText((totalBytes - doneBytes) / bytesPerMs)} left`);
  }
  return parts.join("  ");
}

function durationText(ms: number): string {
  const seconds = Math.ceil(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
