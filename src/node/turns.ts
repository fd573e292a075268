import type { Clock } from "../system/clock.js";
import type { Ending } from "./ending.js";

/**
 * Runs the node's work soon after a request, once for all requests in the same turn of the event
 * loop.
 */
export class Turns {
  #isDue = false;
  #work: () => void = () => {};

  constructor(
    private readonly clock: Clock,
    private readonly ending: Ending,
  ) {}

  /** Sets the work of a turn. The parts that do the work can wake this before. */
  connect(work: () => void): void {
    this.#work = work;
  }

  /** Schedules a turn of the node's work. Call this after giving anything to the core. */
  wake(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.clock.soon(() => {
      this.#isDue = false;
      if (!this.ending.hasBegun) this.ending.attempt(this.#work);
    });
  }

  /** Does a turn's work now, also while the node is stopping. */
  now(): void {
    this.#work();
  }
}
