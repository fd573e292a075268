// Decides whether syncs of files run on the calling thread or in the thread pool.

/**
 * Longest sync, in milliseconds, that may hold up the calling thread. A sync in the thread pool
 * costs about a tenth of a millisecond more, for the way there and back.
 */
const QUICK_MS = 0.5;

/** Longest sync that is still no sign of a disk that has slowed down, in milliseconds. */
const HICCUP_MS = 4;

/** Number of quick syncs in the pool after which one is tried on the calling thread. */
const TRIAL_AFTER = 32;

/** Largest number of syncs in the pool between two trials. */
const TRIAL_AFTER_MAX = 8_192;

/** Weight of the latest sync in the running average. */
const WEIGHT = 1 / 8;

/**
 * Measures the syncs of a process's files. While they are far below a millisecond, as on an SSD
 * with a protected cache, a sync on the calling thread is cheaper than one in the thread pool. A
 * sync that takes long sends the next ones back to the pool, where they hold up nobody: at first
 * for {@link TRIAL_AFTER} syncs, then for twice as many each time.
 */
export class DiskPace {
  /** Running average of syncs on the calling thread, in milliseconds. */
  #averageMs = 0;
  /** Syncs in the pool that are left until the next trial. */
  #left = TRIAL_AFTER;
  #trialAfter = TRIAL_AFTER;
  #isQuick = false;
  /** Shortest of the latest syncs in the pool: no less than what the disk itself takes. */
  #shortestMs = Number.POSITIVE_INFINITY;

  /** Whether the next small write and sync may run on the calling thread. */
  get isQuick(): boolean {
    return this.#isQuick;
  }

  /** Counts a sync in the thread pool. */
  pooled(ms: number): void {
    this.#shortestMs = Math.min(this.#shortestMs, ms);
    this.#left -= 1;
    if (this.#left > 0) return;
    // The time in the pool includes waiting for a busy thread, so it only rules a trial out.
    if (this.#shortestMs < HICCUP_MS) {
      this.#isQuick = true;
      this.#averageMs = 0;
    }
    this.#left = this.#trialAfter;
    this.#shortestMs = Number.POSITIVE_INFINITY;
  }

  /** Counts a sync on the calling thread. */
  direct(ms: number): void {
    this.#averageMs += (ms - this.#averageMs) * WEIGHT;
    if (ms <= HICCUP_MS && this.#averageMs <= QUICK_MS) {
      if (ms <= QUICK_MS) this.#trialAfter = Math.max(TRIAL_AFTER, this.#trialAfter - 1);
      return;
    }
    this.#isQuick = false;
    this.#trialAfter = Math.min(this.#trialAfter * 2, TRIAL_AFTER_MAX);
    this.#left = this.#trialAfter;
    this.#shortestMs = Number.POSITIVE_INFINITY;
  }
}
