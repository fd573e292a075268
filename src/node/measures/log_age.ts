/** Time between two points, in milliseconds: the age is exact to this, at first. */
const STEP_MS = 1_000;

/** Points kept; when there are more, every other one goes, and the steps double. */
const POINTS = 512;

/** The log's end at a time. */
interface LogPoint {
  readonly lastIndex: number;
  readonly unixMs: number;
}

/**
 * Tells how old the oldest entry of the log is. Entries have no time: this notes the log's end
 * every second. For entries that were there at the start, the time of their file's last change at
 * the start counts, or else the start: they may be older.
 */
export class LogAge {
  #points: LogPoint[];
  #stepMs = STEP_MS;

  constructor(
    private readonly unixMs: () => number,
    /** Last entry at the start. */
    lastIndex: number,
    /** Returns when the file of the oldest entry was last changed before the start. */
    private readonly oldestFileUnixMs: () => number | undefined,
  ) {
    this.#points = [{ lastIndex, unixMs: unixMs() }];
  }

  /** Notes the log's end. Call this now and then. */
  note(lastIndex: number): void {
    const unixMs = this.unixMs();
    this.#cutAbove(lastIndex);
    const latest = this.#points.at(-1)!;
    if (latest.lastIndex >= lastIndex || unixMs - latest.unixMs < this.#stepMs) return;
    this.#points.push({ lastIndex, unixMs });
    if (this.#points.length <= POINTS) return;
    this.#points = this.#points.filter((_, at) => at % 2 === 0);
    this.#stepMs *= 2;
  }

  /** Forgets entries that were cut off: those that come in their places are new. */
  #cutAbove(lastIndex: number): void {
    while (this.#points.length > 1 && this.#points.at(-1)!.lastIndex > lastIndex) {
      const { unixMs } = this.#points.pop()!;
      if (this.#points.at(-1)!.lastIndex < lastIndex) this.#points.push({ lastIndex, unixMs });
    }
  }

  /** Returns the age of the entry at `firstIndex`, the log's first one, in milliseconds. */
  ofOldest(firstIndex: number, lastIndex: number): number | undefined {
    if (firstIndex > lastIndex) return undefined;
    const now = this.unixMs();
    // The first point is the start; what lies before the log's first entry is not needed again.
    const start = this.#points[0]!;
    if (firstIndex <= start.lastIndex) return Math.max(0, now - (this.oldestFileUnixMs() ?? start.unixMs));
    const known = this.#points.find((point) => point.lastIndex >= firstIndex);
    return known === undefined ? 0 : Math.max(0, now - known.unixMs);
  }
}
