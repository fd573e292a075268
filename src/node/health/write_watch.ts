import { limits } from "../../base/limits.js";
import type { DiskState } from "../../raft/state.js";
import type { Clock } from "../../system/clock.js";
import type { NodeMeasures } from "../measures/node_measures.js";
import { RecentTimes } from "./recent_times.js";

/** Durations of the syncs of a node's log, in milliseconds. */
export interface LogSync {
  /** The last one that has ended; 0 before the first. */
  readonly lastMs: number;
  /**
   * The longest one within the last limits.healthWindowMs. One under way counts with its duration
   * so far.
   */
  readonly maxMs: number;
  /** The 99th percentile within that time. */
  readonly p99Ms: number;
  /** Duration so far of the write that is under way; undefined when none is. */
  readonly underWayMs: number | undefined;
}

/**
 * Measures how long writes of the log take until they are durable, including the one under way: a
 * write to a disk that hangs never ends (T8).
 */
export class WriteWatch {
  readonly #times = new RecentTimes();
  #lastMs = 0;
  #startedMs: number | undefined;
  /**
   * Time at which a write ended that had taken longer than an election timeout; undefined once a
   * quick write has shown that the disk works again.
   */
  #stuckUntilMs: number | undefined;

  constructor(
    private readonly clock: Clock,
    /** Length of an election timeout. */
    private readonly electionMs: number,
    private readonly measures: Pick<NodeMeasures, "logSyncs">,
  ) {}

  /** Does one write at a time, and measures it. `isSynced`: it is durable when it ends. */
  async measure(isSynced: boolean, write: () => Promise<void>): Promise<void> {
    this.#startedMs = this.clock.now();
    try {
      await write();
    } finally {
      this.#ended(this.clock.now(), isSynced);
    }
  }

  get sync(): LogSync {
    const now = this.clock.now();
    const underWayMs = this.#underWay(now);
    const maxMs = Math.max(this.#times.maxMs(now), underWayMs ?? 0);
    return { lastMs: this.#lastMs, maxMs, p99Ms: this.#times.p99Ms(now), underWayMs };
  }

  get disk(): DiskState {
    const now = this.clock.now();
    if ((this.#underWay(now) ?? 0) >= this.electionMs) return "stuck";
    const isOver =
      this.#stuckUntilMs === undefined || now - this.#stuckUntilMs >= limits.stuckTimeouts * this.electionMs;
    return isOver ? "fit" : "suspect";
  }

  /** Excludes a time during which this process stood still: the disk is not to blame for it. */
  stoodStill(ms: number): void {
    if (this.#startedMs !== undefined) this.#startedMs += ms;
  }

  #underWay(now: number): number | undefined {
    return this.#startedMs === undefined ? undefined : Math.max(0, now - this.#startedMs);
  }

  #ended(now: number, isSynced: boolean): void {
    const ms = this.#underWay(now) ?? 0;
    this.#startedMs = undefined;
    if (ms >= this.electionMs) this.#stuckUntilMs = now;
    else if (isSynced && ms < this.electionMs / 2) this.#stuckUntilMs = undefined;
    if (!isSynced) return;
    this.#lastMs = ms;
    this.#times.record(now, ms);
    this.measures.logSyncs.record(ms);
  }
}
