import { limits } from "../base/limits.js";

/** Decides how long to wait before a process that has ended is started again. */
export class RestartPause {
  #nextMs: number = limits.ingressRestartMs;

  /** Returns the pause after a process that has run for this long; all in milliseconds. */
  after(ranMs: number): number {
    if (ranMs >= limits.ingressRestartMsMax) this.#nextMs = limits.ingressRestartMs;
    const pauseMs = this.#nextMs;
    this.#nextMs = Math.min(2 * pauseMs, limits.ingressRestartMsMax);
    return pauseMs;
  }
}
