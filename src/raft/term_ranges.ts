import { assert } from "../base/assert.js";
import type { LogPosition } from "./types.js";

/**
 * A run of consecutive entries with the same term, from `firstIndex` to right before the next
 * range.
 */
export interface TermRange {
  readonly firstIndex: number;
  readonly term: number;
}

/**
 * Tracks the terms of a log's entries, without the entries. Terms never fall along a log and change
 * only with a leader, so a log of any length has few ranges. The boundary is the position right
 * before the first entry: trimming moves it up, and its term stays known.
 */
export class TermRanges {
  /** Ascending in both fields; the first range starts at the boundary. */
  #ranges: TermRange[];
  #lastIndex: number;

  constructor(boundary: LogPosition) {
    this.#ranges = [{ firstIndex: boundary.index, term: boundary.term }];
    this.#lastIndex = boundary.index;
  }

  /** The position right before the first entry. */
  get boundary(): LogPosition {
    const first = this.#ranges[0]!;
    return { index: first.firstIndex, term: first.term };
  }

  /** Position of the last entry, or the boundary when the log is empty. */
  get last(): LogPosition {
    return { index: this.#lastIndex, term: this.#ranges.at(-1)!.term };
  }

  /** All ranges, oldest first; the first one starts at the boundary. */
  get ranges(): readonly TermRange[] {
    return this.#ranges;
  }

  /** Returns the term of the entry at `index`, or of the boundary; undefined outside the log. */
  termAt(index: number): number | undefined {
    if (index > this.#lastIndex) return undefined;
    return this.#ranges[this.#rangeAt(index)]?.term;
  }

  /**
   * Returns the first index above the boundary with the term of the entry at `index`, which must be
   * above the boundary and in the log.
   */
  firstIndexOfTermAt(index: number): number {
    const at = this.#rangeAt(index);
    assert(at >= 0 && index > this.boundary.index && index <= this.#lastIndex, "the index is in the log", { index });
    return Math.max(this.#ranges[at]!.firstIndex, this.boundary.index + 1);
  }

  /**
   * Returns the highest index, boundary included, whose term is at most `term`; undefined when even
   * the boundary's term is above it.
   */
  lastIndexOfTermAtMost(term: number): number | undefined {
    for (let at = this.#ranges.length - 1; at >= 0; at--) {
      if (this.#ranges[at]!.term <= term) return (this.#ranges[at + 1]?.firstIndex ?? this.#lastIndex + 1) - 1;
    }
    return undefined;
  }

  /** Adds the next entry. */
  append(index: number, term: number): void {
    const last = this.last;
    assert(index === last.index + 1, "entries are consecutive", { index, lastIndex: last.index });
    assert(term >= last.term, "terms never fall along the log", { index, term, lastTerm: last.term });
    if (term > last.term) this.#ranges.push({ firstIndex: index, term });
    this.#lastIndex = index;
  }

  /** Adds the next entries, up to `lastIndex`, all of one term. */
  extendTo(lastIndex: number, term: number): void {
    if (lastIndex <= this.#lastIndex) return;
    this.append(this.#lastIndex + 1, term);
    this.#lastIndex = lastIndex;
  }

  /** Discards all entries; the log continues after `boundary`. */
  reset(boundary: LogPosition): void {
    this.#ranges = [{ firstIndex: boundary.index, term: boundary.term }];
    this.#lastIndex = boundary.index;
  }

  /** Removes the entries above `index`. */
  truncateAfter(index: number): void {
    if (index >= this.#lastIndex) return;
    assert(index >= this.boundary.index, "truncation stays above the boundary", {
      index,
      boundary: this.boundary.index,
    });
    this.#ranges.length = this.#rangeAt(index) + 1;
    this.#lastIndex = index;
  }

  /** Moves the boundary up to an entry of the log. */
  trimTo(index: number): void {
    const at = this.#rangeAt(index);
    assert(at >= 0 && index <= this.#lastIndex, "the log is trimmed at one of its entries", {
      index,
      boundary: this.boundary.index,
      lastIndex: this.#lastIndex,
    });
    this.#ranges = [{ firstIndex: index, term: this.#ranges[at]!.term }, ...this.#ranges.slice(at + 1)];
  }

  /** Returns the position in `#ranges` of the range that holds `index`; -1 below the boundary. */
  #rangeAt(index: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle]!.firstIndex <= index) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
