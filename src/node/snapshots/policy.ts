import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { Clock } from "../../system/clock.js";
import type { Logger } from "../../system/logger.js";
import type { SnapshotTrigger } from "./reason.js";

/**
 * When a node takes a snapshot without being asked: whatever comes first. `false` turns one off.
 */
export interface SnapshotPolicy {
  /**
   * Entries applied since the last one, 1 or more: a number that is given is obeyed exactly. Left
   * out: 100,000, and no fewer than {@link logRatio} asks for.
   */
  readonly entries?: number | false | undefined;
  /**
   * Bytes of log since the last one, 1 or more. Default 64 MiB; more when {@link logRatio} asks for
   * more.
   */
  readonly logBytes?: number | false | undefined;
  /**
   * The log since the last one has to be at least so many times as large as that one before its
   * size counts. However large the state is, all snapshots but the last are then together at most 1
   * / logRatio of the log. Default 1.
   */
  readonly logRatio?: number | false | undefined;
  /**
   * Milliseconds since the last one (or since the node started), if anything was applied since.
   * Default false.
   */
  readonly ageMs?: number | false | undefined;
}

/** What was applied since the newest snapshot. */
export interface SinceSnapshot {
  readonly entries: number;
  /** Bytes that they take in the log. */
  readonly bytes: number;
  /** Size of the newest snapshot; 0 when there is none. */
  readonly snapshotBytes: number;
}

/** What {@link AutoSnapshot} sees and does. */
export interface AutoSnapshotOptions {
  readonly policy: SnapshotPolicy;
  readonly clock: Clock;
  readonly logger: Logger;
  since(): SinceSnapshot;
  /**
   * The log begins behind every good snapshot: only the state keeps the node, and one is due
   * whatever the policy says (T7).
   */
  isMissing(): boolean;
  /** Whether this node leads, and others follow closely. */
  leadsOthers(): boolean;
  /** Takes one; resolves with whether one was taken. */
  take(reason: SnapshotTrigger): Promise<boolean>;
}

/** A leader with followers waits until there is so many times as much as they wait for. */
const LEADER_PATIENCE = 1.25;

/**
 * Takes snapshots by the policy, one at a time. A trigger that comes while one is being taken is
 * not lost: what was applied meanwhile is looked at when it is done. One that fails is tried again
 * after a while.
 *
 * A leader lets its followers go first, so that the whole cluster is seldom busy with snapshots at
 * the same time: it waits until it is due by a quarter more than they, or for
 * limits.snapshotPatienceMs, whichever comes first.
 */
export class AutoSnapshot {
  readonly #options: AutoSnapshotOptions;
  #lastMs: number;
  #taking = false;
  #stopped = false;
  #failures = 0;
  /** Why the last try has failed. */
  #failure: string | undefined;
  /** Ends the wait after a failure. */
  #endPause: (() => void) | undefined;
  /** Ends the leader's wait for its followers. */
  #endPatience: (() => void) | undefined;
  #isImpatient = false;
  #endAge: (() => void) | undefined;

  constructor(options: AutoSnapshotOptions) {
    this.#options = options;
    this.#lastMs = options.clock.now();
    this.#waitForAge();
  }

  /** Why there is no new snapshot although one is due; undefined when all is well. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Entries were applied: takes a snapshot if one is due. */
  applied(): void {
    this.#look();
  }

  /** Time has passed: a snapshot may have been lost. */
  tick(): void {
    if (this.#options.isMissing()) this.#look();
  }

  /** There is a new snapshot, wherever it came from. */
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

  /** What makes one due when `factor` times as much is waited for. */
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
    // One that was not taken is not taken a moment later either: the next entries lead to another
    // look.
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
