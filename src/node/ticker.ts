import type { Clock } from "./clock.js";

/** Ticks at a steady pace. A tick that comes late is not made up for: a node that was paused must not take that for its leader's silence. */
export class Ticker {
  #cancel: () => void = () => {};
  #last: number;

  constructor(
    private readonly clock: Clock,
    private readonly tickMs: number,
    /** `isLate`: the clock may have stood still since the tick before. */
    private readonly tick: (isLate: boolean) => void,
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
      this.#last = this.clock.now();
      this.#schedule();
      this.tick(isLate);
    });
  }
}
