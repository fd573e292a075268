import type { Clock } from "../../system/clock.js";

/**
 * Unused time that may be made up for, in milliseconds, so that a late timer costs no bandwidth.
 */
const BURST_MS = 100;

/** Limits the bytes per second of all callers together. */
export class Bandwidth {
  /** Time at which the bytes granted so far have used up their share. */
  #freeAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    /** Bytes per second, 1 or more. */
    readonly bytesPerSecond: number,
    private readonly clock: Clock,
  ) {}

  /**
   * Resolves when `bytes` bytes may be sent, in the order of the calls; at once when the signal is
   * aborted.
   */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    const now = this.clock.now();
    const atMs = Math.max(this.#freeAtMs, now - BURST_MS);
    this.#freeAtMs = atMs + (bytes * 1_000) / this.bytesPerSecond;
    if (atMs <= now || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        callOff();
        signal.removeEventListener("abort", end);
        resolve();
      };
      const callOff = this.clock.after(atMs - now, end);
      signal.addEventListener("abort", end);
    });
  }
}
