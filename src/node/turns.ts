import type { Clock } from "../system/clock.js";

/**
 * Runs the node's work soon after a request, once for all requests in the same turn of the event
 * loop.
 */
export class Turns {
  #isDue = false;

  constructor(
    private readonly clock: Clock,
    private readonly work: () => void,
  ) {}

  /** Schedules a turn of the node's work. Call this after giving anything to the core. */
  wake(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.clock.soon(() => {
      this.#isDue = false;
      this.work();
    });
  }
}
