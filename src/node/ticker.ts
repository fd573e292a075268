import type { Clock } from "../system/clock.js";

/**
 * Ticks at a steady pace. A tick that comes late is not made up for: a node that was paused must
 * not take that for its leader's silence.
 */
export class Ticker {
  #cancel: () => void = () => {};
  #last: number;

  constructor(
    private readonly clock: Clock,
    private readonly tickMs: number,
    /**
     * Told the milliseconds since the tick before, and whether the clock may have stood still
     * since.
     */
    private readonly tick: (elapsedMs: number, isLate: boolean) => void,
  ) {
    this.#last = clock.now();
    this.#schedule();
  }

  /** Whether a tick is overdue by so much that the clock may have stood still. */
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
