// Decides whether syncs of files run on the calling thread or in the thread pool.

/** A sync within this time, in milliseconds, is cheaper on the calling thread. */
const QUICK_MS = 1;

/**
 * Each slow sync counts one, and each quick one takes this much off. So one slow sync in four is
 * tolerated: the operating system may have run another process meanwhile.
 */
const QUICK_TAKES_OFF = 1 / 3;

/** Number of slow syncs, counted so, that shows that the disk is not quick. */
const SLOW_SYNCS = 8;

/** A single sync of this time, in milliseconds, shows that the disk is not quick. */
const STALL_MS = 50;

/** Number of syncs in the pool after which one is tried on the calling thread. */
const TRIAL_AFTER = 32;

/** Largest number of syncs in the pool between two trials. */
const TRIAL_AFTER_MAX = 8_192;

/** A disk whose shortest sync in the pool takes this long, in milliseconds, is not tried. */
const HOPELESS_MS = 2;

/** Number of quick syncs on the calling thread after which earlier failures are forgotten. */
const FORGIVEN_AFTER = 1_000;

/**
 * Measures the syncs of a process's files. While they are far below a millisecond, as on an SSD
 * with a protected cache, a sync on the calling thread is cheaper than one in the thread pool: the
 * way there and back costs more than the disk. When syncs take longer, they go back to the pool,
 * where they hold up nobody: at first for {@link TRIAL_AFTER} syncs, then for twice as many each
 * time.
 */
export class DiskPace {
  #isQuick = false;
  /** Slow syncs on the calling thread, less what quick ones took off. */
  #slow = 0;
  #quickInAll = 0;
  /** Syncs in the pool that are left until the next trial. */
  #left = TRIAL_AFTER;
  #trialAfter = TRIAL_AFTER;
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
    this.#isQuick = this.#shortestMs < HOPELESS_MS;
    this.#slow = this.#quickInAll = 0;
    this.#left = this.#trialAfter;
    this.#shortestMs = Number.POSITIVE_INFINITY;
  }

  /** Counts a sync on the calling thread. */
  direct(ms: number): void {
    if (ms <= QUICK_MS) {
      this.#slow = Math.max(0, this.#slow - QUICK_TAKES_OFF);
      this.#quickInAll += 1;
      if (this.#quickInAll >= FORGIVEN_AFTER) this.#trialAfter = TRIAL_AFTER;
      return;
    }
    this.#slow += 1;
    if (ms < STALL_MS && this.#slow < SLOW_SYNCS) return;
    this.#isQuick = false;
    this.#trialAfter = Math.min(this.#trialAfter * 2, TRIAL_AFTER_MAX);
    this.#left = this.#trialAfter;
    this.#shortestMs = Number.POSITIVE_INFINITY;
  }
}
