import type { Clock } from "../system/clock.js";

/**
 * Ticks at a steady pace. It does not make up for late ticks: a node that was paused must not
 * mistake its own pause for its leader's silence.
 */
export class Ticker {
  #cancel: () => void = () => {};
  #last: number;

  constructor(
    private readonly clock: Clock,
    private readonly tickMs: number,
    /**
     * Called on each tick with the milliseconds since the previous tick, and with whether the clock
     * may have stood still since.
     */
    private readonly tick: (elapsedMs: number, isLate: boolean) => void,
  ) {
    this.#last = clock.now();
    this.#schedule();
  }

  /** Whether a tick is so overdue that the clock may have stood still. */
  get isLate(): boolean {
    return this.clock.now() - this.#last > 1.5 * this.tickMs;
  }

  stop(): void {
    this.#cancel();
  }

  #schedule(): void {
    this.#cancel = this.clock.after(this.tickMs, () => {
      const { isLate } = this;
      const elapsedMs = this.clock.now() - this.#last;
      this.#last += elapsedMs;
      this.#schedule();
      this.tick(elapsedMs, isLate);
    });
  }
}
