import { limits } from "../../base/limits.js";

/** Number of slots into which the window of {@link RecentTimes} is divided. */
const SLOTS = 12;
/** Number of histogram buckets: bucket n holds times below 2^n / 8 milliseconds. */
const BUCKETS = 32;

interface Slot {
  /** Number of its interval since the clock's zero. */
  number: number;
  maxMs: number;
  readonly buckets: Uint32Array;
}

/**
 * Tracks the longest, and the 99th percentile, of the durations recorded within the last
 * limits.healthWindowMs, in constant memory.
 */
export class RecentTimes {
  readonly #slots: Slot[] = Array.from({ length: SLOTS }, () => ({
    number: -1,
    maxMs: 0,
    buckets: new Uint32Array(BUCKETS),
  }));

  record(nowMs: number, ms: number): void {
    const number = slotNumber(nowMs);
    const slot = this.#slots[number % SLOTS]!;
    if (slot.number !== number) {
      slot.number = number;
      slot.maxMs = 0;
      slot.buckets.fill(0);
    }
    slot.maxMs = Math.max(slot.maxMs, ms);
    slot.buckets[bucketOf(ms)]! += 1;
  }

  /** The longest duration; 0 when there is none. */
  maxMs(nowMs: number): number {
    return this.#recent(nowMs).reduce((max, slot) => Math.max(max, slot.maxMs), 0);
  }

  /**
   * The 99th percentile, rounded up to a power of two of 1/8 ms, but no more than the longest
   * duration; 0 when there is none.
   */
  p99Ms(nowMs: number): number {
    const slots = this.#recent(nowMs);
    const sums = Array.from({ length: BUCKETS }, (_, at) => slots.reduce((sum, { buckets }) => sum + buckets[at]!, 0));
    let left = Math.ceil(sums.reduce((sum, count) => sum + count, 0) * 0.99);
    if (left === 0) return 0;
    const bucket = sums.findIndex((count) => {
      left -= count;
      return left <= 0;
    });
    return Math.min(2 ** bucket / 8, this.maxMs(nowMs));
  }

  #recent(nowMs: number): Slot[] {
    const number = slotNumber(nowMs);
    return this.#slots.filter((slot) => slot.number > number - SLOTS && slot.number <= number);
  }
}

function slotNumber(nowMs: number): number {
  return Math.floor((nowMs * SLOTS) / limits.healthWindowMs);
}

function bucketOf(ms: number): number {
  return ms < 1 / 8 ? 0 : Math.min(BUCKETS - 1, Math.floor(Math.log2(ms * 8)) + 1);
}
