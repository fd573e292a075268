import type { RaftState } from "../state.js";
import type { LeadershipTransfer } from "./leadership_transfer.js";

/**
 * Resigns the leadership of a node whose disk is stuck (T8): hands over to the most caught-up
 * voter, and steps down when no other node has taken over within an election timeout. The transfer
 * does not wait for this node's disk: entries and TimeoutNow promise nothing that is not yet
 * durable.
 *
 * A leader resigns only when a majority of the others has made durable an entry that its own disk
 * has not written. Without that majority no other node could be elected and commit. Resigning would
 * then replace a slow leader by none, as happens when all nodes share one disk.
 */
export class Resignation {
  /** Ticks until this leader steps down; undefined while it is not resigning. */
  #ticksLeft: number | undefined;

  constructor(
    private readonly state: RaftState,
    private readonly leadershipTransfer: LeadershipTransfer,
  ) {}

  /** Counts a tick. Returns whether the leader steps down now. */
  tick(): boolean {
    if (!this.#isDue) {
      this.#ticksLeft = undefined;
      return false;
    }
    if (this.#ticksLeft === undefined) {
      this.#ticksLeft = this.state.timing.electionTicks;
      this.leadershipTransfer.begin(undefined);
    }
    this.#ticksLeft -= 1;
    return this.#ticksLeft <= 0;
  }

  /**
   * Whether this leader must resign. With manual elections it never does: no other node would
   * campaign when it steps down.
   */
  get #isDue(): boolean {
    const { disk, log, timing } = this.state;
    return disk === "stuck" && timing.isAutomatic && log.commit > log.persisted;
  }
}
