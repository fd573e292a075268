/** Shortest time between two redraws of the line, in milliseconds. */
const REDRAW_MS = 100;

/** Do not show a rate or a time left before this much time has passed, in milliseconds. */
const SETTLE_MS = 500;

const MB = 1e6;

/** Shows the progress of a transfer. */
export interface ProgressDisplay {
  /** Updates the number of bytes that are done, and the total. */
  update(doneBytes: number, totalBytes: number): void;
  /** Ends the display, after success or failure, and leaves an empty line for further output. */
  end(): void;
}

export const noProgress: ProgressDisplay = { update() {}, end() {} };

/** Redraws one line on a terminal; does nothing on any other stream. */
export function progressOn(stream: NodeJS.WriteStream): ProgressDisplay {
  if (!stream.isTTY) return noProgress;
  const started = performance.now();
  let drawn = Number.NEGATIVE_INFINITY;
  return {
    update(doneBytes, totalBytes) {
      const now = performance.now();
      if (now - drawn < REDRAW_MS && doneBytes < totalBytes) return;
      drawn = now;
      endStep();
      stream.write(`\r${progressText(doneBytes, totalBytes, now - started)}\x1b[K`);
    },
    end() {
      if (drawn >= 0) stream.write("\r\x1b[K");
    },
  };
}

/** Time after which a step that has no measure says that it is under way, in milliseconds. */
const STEP_SHOWN_MS = 1_000;

/** Ends the step that is shown; a terminal shows one at a time. */
let endShown: () => void = () => {};

/** Ends the step that is shown, if any: call it before anything else is written to the terminal. */
export function endStep(): void {
  endShown();
}

/**
 * Shows on a terminal that a step is under way, and for how long, once it takes more than a second.
 * Returns a function that ends the display; so does the next output of the command.
 */
export function stepOn(stream: NodeJS.WriteStream, text: string): () => void {
  if (!stream.isTTY) return () => {};
  endStep();
  const started = performance.now();
  let isShown = false;
  const timer = setInterval(() => {
    isShown = true;
    stream.write(`\r${text}: ${Math.round((performance.now() - started) / 1_000)} s\x1b[K`);
  }, STEP_SHOWN_MS);
  timer.unref();
  const end = () => {
    clearInterval(timer);
    if (isShown) stream.write("\r\x1b[K");
    isShown = false;
    if (endShown === end) endShown = () => {};
  };
  endShown = end;
  return end;
}

/**
 * Does `work` as a step that is shown on the terminal, unless the output is for a program; false
 * shows nothing.
 */
export async function asStep<Result>(
  text: string | false,
  { json }: { readonly json?: boolean | undefined },
  work: () => Promise<Result>,
): Promise<Result> {
  const end = json || text === false ? () => {} : stepOn(process.stderr, text);
  try {
    return await work();
  } finally {
    end();
  }
}

/** Formats the progress line: ` 42 %  420.0 of 1000.0 MB  105.0 MB/s  6 s left`. */
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
