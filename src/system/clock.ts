/**
 * Time as a node or a client sees it. Injected, so that a simulator or a test can hold it in its
 * hand.
 */
export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  /**
   * Calls `run` once after `ms` milliseconds; returns a function that calls it off. `isBackground`:
   * the process need not stay alive for it.
   */
  after(ms: number, run: () => void, isBackground?: boolean): () => void;
  /** Calls `run` soon, when the events that are at hand have been dealt with. */
  soon(run: () => void): void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, run, isBackground = false) {
    const timer = setTimeout(run, ms);
    if (isBackground) timer.unref();
    return () => clearTimeout(timer);
  },
  soon: (run) => void setImmediate(run),
};
