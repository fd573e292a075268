import type { Clock } from "../../system/clock.js";

/**
 * What was not used lately may be made up for, so that a timer that is late does not cost anything,
 * in milliseconds.
 */
const BURST_MS = 100;

/** Bytes per second, shared by all who ask. */
export class Bandwidth {
  /** When all that was granted has had its time. */
  #freeAtMs = Number.NEGATIVE_INFINITY;

  constructor(
    /** 1 or more. */
    readonly bytesPerSecond: number,
    private readonly clock: Clock,
  ) {}

  /**
   * Resolves when so many bytes may be sent, in the order of the calls; at once when the signal is
   * set.
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
