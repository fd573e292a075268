/**
 * Provides the time to a node or a client. Injected, so that a simulator or a test can control it.
 */
export interface Clock {
  /** Returns the milliseconds since some fixed moment; never decreases. */
  now(): number;
  /**
   * Calls `run` once after `ms` milliseconds; returns a function that cancels the call.
   * `isBackground`: the timer does not keep the process alive.
   */
  after(ms: number, run: () => void, isBackground?: boolean): () => void;
  /** Calls `run` soon, after the events that are already due. */
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
