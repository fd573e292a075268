// Begins calls at a fixed rate, whatever the answers do, and reports them interval by interval.
import { performance } from "node:perf_hooks";

/** Calls that are due begin in steps of this time; a call waits for half of it on average. */
const STEP_MS = 1;

/** Starts with its construction. `call` makes one call. */
export class OpenLoop {
  #call;
  #rate;
  #timer;
  #started = performance.now();
  #begun = 0;
  #ended = 0;
  #interval = emptyInterval();

  /** @param rate calls a second */
  constructor(rate, call) {
    this.#rate = rate;
    this.#call = call;
    this.#timer = setInterval(() => this.#beginWhatIsDue(), STEP_MS);
  }

  /**
   * Returns the figures since the last call of this function: answers a second, times in
   * milliseconds from the intended start of each call, and the calls that have no answer yet.
   */
  interval() {
    const { from, took, errors, firstError } = this.#interval;
    this.#interval = emptyInterval();
    const seconds = (this.#interval.from - from) / 1000;
    const sorted = Float64Array.from(took).sort();
    const at = (share) => sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
    const open = this.#begun - this.#ended;
    return { rate: took.length / seconds, p50: at(0.5), p99: at(0.99), max: at(1), errors, firstError, open };
  }

  stop() {
    clearInterval(this.#timer);
  }

  #beginWhatIsDue() {
    const due = Math.floor(((performance.now() - this.#started) * this.#rate) / 1000);
    while (this.#begun < due) void this.#make(this.#started + (this.#begun++ * 1000) / this.#rate);
  }

  async #make(intended) {
    try {
      await this.#call();
      this.#interval.took.push(performance.now() - intended);
    } catch (error) {
      this.#interval.errors++;
      this.#interval.firstError ??= String(error);
    } finally {
      this.#ended++;
    }
  }
}

function emptyInterval() {
  return { from: performance.now(), took: [], errors: 0, firstError: undefined };
}
