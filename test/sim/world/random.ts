import { Random } from "../../support/random.js";

/** The random source of a run. Parts of the simulator draw from forks of it, so that a new draw in one does not change all others. */
export class SimRandom extends Random {
  /** A source of its own for the part with this name. */
  fork(name: string): SimRandom {
    let mixed = this.seed >>> 0;
    for (let at = 0; at < name.length; at++) mixed = Math.imul(mixed ^ name.charCodeAt(at), 0x01000193) >>> 0;
    return new SimRandom(mixed);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  /** From `least` to below `most`. */
  between(least: number, most: number): number {
    return least + this.fraction() * (most - least);
  }

  /** A time until something that happens every `mean` on average, independent of when it happened last; at most ten times the mean. */
  waiting(mean: number): number {
    return Math.min(-Math.log(1 - this.fraction()), 10) * mean;
  }
}
