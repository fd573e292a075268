import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { Clock } from "../../system/clock.js";
import type { Logger } from "../../system/logger.js";
import type { SnapshotTrigger } from "./reason.js";

/**
 * Conditions under which a node takes a snapshot without being asked; the first one that holds
 * counts. `false` turns a condition off.
 */
export interface SnapshotPolicy {
  /**
   * Entries applied since the last snapshot, 1 or more: a given number is obeyed exactly. Default:
   * 100,000, but no fewer than {@link logRatio} asks for.
   */
  readonly entries?: number | false | undefined;
  /**
   * Bytes of log since the last snapshot, 1 or more. Default 64 MiB; more when {@link logRatio}
   * asks for more.
   */
  readonly logBytes?: number | false | undefined;
  /**
   * Minimum ratio of the log since the last snapshot to the size of that snapshot, before the log's
   * size counts. Whatever the size of the state, all snapshots but the last are then together at
   * most 1 / logRatio of the log. Default 1.
   */
  readonly logRatio?: number | false | undefined;
  /**
   * Milliseconds since the last snapshot (or since the node started), if any entry was applied
   * since. Default false.
   */
  readonly ageMs?: number | false | undefined;
}

/** Totals of the entries applied since the newest snapshot. */
export interface SinceSnapshot {
  readonly entries: number;
  /** Bytes of these entries in the log. */
  readonly bytes: number;
  /** Size of the newest snapshot; 0 when there is none. */
  readonly snapshotBytes: number;
}

/** The surroundings of {@link SnapshotScheduler}. */
export interface SnapshotSchedulerOptions {
  readonly policy: SnapshotPolicy;
  readonly clock: Clock;
  readonly logger: Logger;
  since(): SinceSnapshot;
  /**
   * Whether the log begins above every good snapshot. Only the state keeps the node usable then,
   * and a snapshot is due whatever the policy says (T7).
   */
  isMissing(): boolean;
  /** Whether this node leads, and other voters follow closely. */
  leadsOthers(): boolean;
  /** Takes a snapshot; resolves with whether one was taken. */
  take(reason: SnapshotTrigger): Promise<boolean>;
}

/** A leader with followers waits until it exceeds a follower's thresholds by this factor. */
const LEADER_PATIENCE = 1.25;

/**
 * Takes snapshots by the policy, one at a time. A trigger during a snapshot is not lost: when the
 * snapshot is done, this checks again what was applied meanwhile. A failed snapshot is retried
 * after a pause.
 *
 * A leader lets its followers go first, so that the whole cluster is seldom busy with snapshots at
 * the same time: it waits until it exceeds their thresholds by a quarter, or for
 * limits.snapshotPatienceMs, whichever comes first.
 */
export class SnapshotScheduler {
  readonly #options: SnapshotSchedulerOptions;
  #lastMs: number;
  #taking = false;
  #stopped = false;
  #failures = 0;
  /** The reason why the last attempt failed. */
  #failure: string | undefined;
  /** Ends the pause after a failure. */
  #endPause: (() => void) | undefined;
  /** Ends the leader's wait for its followers. */
  #endPatience: (() => void) | undefined;
  #isImpatient = false;
  #endAge: (() => void) | undefined;

  constructor(options: SnapshotSchedulerOptions) {
    this.#options = options;
    this.#lastMs = options.clock.now();
    this.#waitForAge();
  }

  /** The reason why a snapshot is due and was not taken; undefined when all is well. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Takes a snapshot if one is due, after entries were applied. */
  applied(): void {
    this.#look();
  }

  /** Takes a snapshot if the last good one was lost. Call this from time to time. */
  tick(): void {
    if (this.#options.isMissing()) this.#look();
  }

  /** Restarts the counts, after a snapshot was taken or installed. */
  done(): void {
    this.#lastMs = this.#options.clock.now();
    this.#failure = undefined;
    this.#endWaiting();
    this.#waitForAge();
  }

  stop(): void {
    this.#stopped = true;
    this.#endPause?.();
    this.#endAge?.();
    this.#endPatience?.();
  }

  #look(): void {
    if (this.#taking || this.#stopped || this.#endPause !== undefined) return;
    const reason = this.#dueReason(1);
    if (reason === undefined) this.#endWaiting();
    else if (this.#waits()) this.#beginWaiting();
    else void this.#take(reason);
  }

  /**
   * Returns the condition under which a snapshot is due when all thresholds are multiplied by
   * `factor`.
   */
  #dueReason(factor: number): SnapshotTrigger | undefined {
    const { policy, since, isMissing, clock } = this.#options;
    if (isMissing()) return "missing";
    const { entries, bytes, snapshotBytes } = since();
    const { logBytes = limits.snapshotLogBytes, logRatio = limits.snapshotLogRatio, ageMs = false } = policy;
    if (entries <= 0) return undefined;
    const least = logRatio === false ? 0 : logRatio * snapshotBytes * factor;
    if (policy.entries === undefined) {
      if (entries >= limits.snapshotEntries * factor && bytes >= least) return "entries";
    } else if (policy.entries !== false && entries >= policy.entries * factor) return "entries";
    if (logBytes !== false && bytes >= Math.max(logBytes * factor, least)) {
      return least > logBytes * factor ? "log_ratio" : "log_bytes";
    }
    if (ageMs !== false && clock.now() - this.#lastMs >= ageMs * factor) return "age";
    return undefined;
  }

  #waits(): boolean {
    return !this.#isImpatient && this.#options.leadsOthers() && this.#dueReason(LEADER_PATIENCE) === undefined;
  }

  #beginWaiting(): void {
    this.#endPatience ??= this.#options.clock.after(limits.snapshotPatienceMs, () => {
      this.#isImpatient = true;
      this.#look();
    });
  }

  #endWaiting(): void {
    this.#endPatience?.();
    this.#endPatience = undefined;
    this.#isImpatient = false;
  }

  #waitForAge(): void {
    const { ageMs = false } = this.#options.policy;
    this.#endAge?.();
    if (ageMs !== false && !this.#stopped) this.#endAge = this.#options.clock.after(ageMs, () => this.#look());
  }

  async #take(reason: SnapshotTrigger): Promise<void> {
    this.#taking = true;
    let taken = false;
    try {
      taken = await this.#options.take(reason);
      this.#failures = 0;
    } catch (error) {
      this.#failed(error);
    }
    this.#taking = false;
    // If none was taken, a retry at once would not take one either: the next entries trigger
    // another check.
    if (taken) this.#look();
  }

  #failed(error: unknown): void {
    const { clock, logger } = this.#options;
    if (this.#stopped || hasCode(error, "STOPPED")) return;
    const retryMs = Math.min(limits.snapshotRetryMs * 2 ** Math.min(this.#failures, 30), limits.snapshotRetryMsMax);
    this.#failures += 1;
    this.#failure = CairnError.from(error).text;
    logger.warn({ reason: this.#failure, retryMs }, "a snapshot could not be taken");
    this.#endPause = clock.after(retryMs, () => {
      this.#endPause = undefined;
      this.#look();
    });
  }
}
