import type { Clock } from "../../../../src/system/clock.js";
import type { Place, Scheduler, SimEvent } from "./scheduler.js";

interface Timer {
  /** By this clock, in milliseconds. */
  readonly due: number;
  readonly life: number;
  readonly run: () => void;
  event: SimEvent;
}

/** The clock of one machine: it runs a little too fast or too slow, and may jump forward. It never goes back. */
export class SimClock {
  /** Milliseconds that it counts while one passes. */
  #rate: number;
  /** Its time, and the true time, when it was last changed. */
  #base: number;
  #since: number;
  #timers = new Set<Timer>();

  constructor(
    private readonly scheduler: Scheduler,
    private readonly place: Place,
    rate: number,
    start: number,
  ) {
    this.#rate = rate;
    this.#base = start;
    this.#since = scheduler.nowMs;
  }

  get now(): number {
    return this.#base + (this.scheduler.nowMs - this.#since) * this.#rate;
  }

  /** The clock as the process that lives here now sees it: what it has set goes off in its own life only. */
  view(): Clock {
    const { life } = this.place;
    return {
      now: () => this.now,
      after: (ms, run) => this.#set(ms, life, run),
      soon: (run) => {
        if (life === this.place.life) this.scheduler.after(0, this.place, "soon", run);
      },
    };
  }

  drift(rate: number): void {
    this.#change(this.now, rate);
  }

  jump(ms: number): void {
    this.#change(this.now + ms, this.#rate);
  }

  #change(now: number, rate: number): void {
    this.#base = now;
    this.#since = this.scheduler.nowMs;
    this.#rate = rate;
    const timers = [...this.#timers].filter(({ life }) => life === this.place.life);
    this.#timers = new Set(timers);
    for (const timer of timers) {
      this.scheduler.cancel(timer.event);
      timer.event = this.#schedule(timer);
    }
  }

  #set(ms: number, life: number, run: () => void): () => void {
    if (life !== this.place.life) return () => {};
    const timer: Omit<Timer, "event"> & { event?: SimEvent } = { due: this.now + ms, life, run };
    const set = timer as Timer;
    set.event = this.#schedule(set);
    this.#timers.add(set);
    return () => {
      this.scheduler.cancel(set.event);
      this.#timers.delete(set);
    };
  }

  #schedule(timer: Timer): SimEvent {
    return this.scheduler.after((timer.due - this.now) / this.#rate, this.place, "timer", () => {
      this.#timers.delete(timer);
      timer.run();
    });
  }
}
