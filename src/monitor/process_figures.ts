import { readdir, statfs } from "node:fs/promises";
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import { processLimits } from "../system/process_limits.js";

/** Time after which a window of the loop's delay ends and the next one begins, in ms. */
const WINDOW_MS = 10_000;

/** Resolution of the loop's delay, in ms; the timer's own period is taken off. */
const RESOLUTION_MS = 10;

/** Figures that need a look at the system. Undefined where the system does not tell. */
export interface SystemFigures {
  readonly openDescriptors: number | undefined;
  readonly maxDescriptors: number | undefined;
  readonly diskFreeBytes: number | undefined;
  readonly diskSizeBytes: number | undefined;
}

const UNKNOWN: SystemFigures = {
  openDescriptors: undefined,
  maxDescriptors: undefined,
  diskFreeBytes: undefined,
  diskSizeBytes: undefined,
};

/** Measures the process: the delay of its event loop, its descriptors, its disk. */
export class ProcessFigures {
  /** As of the last {@link look}. */
  latest: SystemFigures = UNKNOWN;
  readonly #histogram: IntervalHistogram;
  readonly #timer: NodeJS.Timeout;
  /** Quantiles of the window before the present one. */
  #last: Readonly<Record<string, number>> = {};

  constructor(private readonly directory: string) {
    this.#histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    this.#histogram.enable();
    this.#timer = setInterval(() => this.#nextWindow(), WINDOW_MS);
    this.#timer.unref();
  }

  /** Returns a quantile of the event loop's delay in seconds; undefined in the first seconds. */
  readonly loopDelay = (quantile: number): number | undefined => this.#last[quantile] ?? this.#quantile(quantile);

  /** Looks at the system. Never rejects. */
  async look(): Promise<void> {
    const [openDescriptors, disk] = await Promise.all([
      countDescriptors(),
      statfs(this.directory).catch(() => undefined),
    ]);
    this.latest = {
      openDescriptors,
      maxDescriptors: processLimits().openFilesLimit,
      diskFreeBytes: disk && disk.bavail * disk.bsize,
      diskSizeBytes: disk && disk.blocks * disk.bsize,
    };
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#histogram.disable();
  }

  #nextWindow(): void {
    this.#last = Object.fromEntries([0.5, 0.99, 1].map((quantile) => [quantile, this.#quantile(quantile) ?? 0]));
    this.#histogram.reset();
  }

  #quantile(quantile: number): number | undefined {
    if (this.#histogram.count === 0) return undefined;
    const ns = this.#histogram.percentile(quantile * 100);
    return Math.max(0, ns / 1e9 - RESOLUTION_MS / 1_000);
  }
}

async function countDescriptors(): Promise<number | undefined> {
  // Without the one that lists them.
  const open = await readdir("/proc/self/fd").catch(() => undefined);
  return open && open.length - 1;
}
