import type { Clock } from "../system/clock.js";

/**
 * Does the node's work soon after it was asked for, with all else that comes in the same turn of
 * the event loop.
 */
export class Turns {
  #isDue = false;

  constructor(
    private readonly clock: Clock,
    private readonly work: () => void,
  ) {}

  /** Something was given to the core: what comes of it is seen to soon. */
  wake(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.clock.soon(() => {
      this.#isDue = false;
      this.work();
    });
  }
}
