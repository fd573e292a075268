// Counts and times events, in plain memory.

/** Counts of a histogram at one moment. */
export interface HistogramView {
  /** Upper bounds of the buckets, ascending; a last bucket holds everything above. */
  readonly bounds: readonly number[];
  /** Number of values in each bucket: one more than there are bounds. */
  readonly counts: readonly number[];
  /** Number and sum of all values. */
  readonly count: number;
  readonly sum: number;
}

/** Upper bounds for durations in milliseconds: 0.05 ms to 30 s. */
export const DURATION_BOUNDS_MS: readonly number[] = [
  0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000,
];

/**
 * Counts values by size, in constant memory and without an allocation a value. The exporter of
 * metrics reads it; the hot path only adds.
 */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[] = DURATION_BOUNDS_MS) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  record(value: number): void {
    const bounds = this.#bounds;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value <= bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.#counts[low]! += 1;
    this.#sum += value;
  }

  view(): HistogramView {
    const counts = [...this.#counts];
    return { bounds: this.#bounds, counts, count: counts.reduce((sum, each) => sum + each, 0), sum: this.#sum };
  }
}

/**
 * Returns the value below which a part of the values lies (0.99: the 99th percentile), as if those
 * of a bucket were spread evenly; undefined without values. Values above all bounds count as the
 * last bound.
 */
export function quantileOf({ bounds, counts, count }: HistogramView, part: number): number | undefined {
  if (count === 0) return undefined;
  let left = count * part;
  for (const [at, upper] of bounds.entries()) {
    const inside = counts[at]!;
    const lower = bounds[at - 1] ?? 0;
    if (left <= inside) return lower + (upper - lower) * (inside === 0 ? 0 : left / inside);
    left -= inside;
  }
  return bounds.at(-1);
}

/** Counts events by name. */
export class NamedCounts<Name extends string = string> {
  readonly #counts = new Map<Name, number>();

  add(name: Name, amount = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + amount);
  }

  get(name: Name): number {
    return this.#counts.get(name) ?? 0;
  }

  /** The names that were counted, with their counts. */
  entries(): Iterable<readonly [Name, number]> {
    return this.#counts.entries();
  }
}
