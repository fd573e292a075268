import type { RaftState } from "../state.js";
import type { Handover } from "./handover.js";

/**
 * Gives up the leadership of a node whose disk is stuck (T8): hands over to the voter that is most
 * caught up, and steps down when nobody has taken over within an election timeout. The handover
 * does not wait for this node's disk: entries and TimeoutNow promise nothing that is still to be
 * written.
 *
 * A leader gives up only when a majority of the others has made durable what its own disk has not
 * taken. Without that majority nobody else could be elected and commit: then leaving would replace
 * a slow leader by none, which is what happens when all disks are one disk.
 */
export class Resignation {
  /** Undefined: it is not giving up. */
  #ticksLeft: number | undefined;

  constructor(
    private readonly state: RaftState,
    private readonly handover: Handover,
  ) {}

  /** Counts a tick. Returns whether the leader steps down now. */
  tick(): boolean {
    if (!this.#isDue) {
      this.#ticksLeft = undefined;
      return false;
    }
    if (this.#ticksLeft === undefined) {
      this.#ticksLeft = this.state.timing.electionTicks;
      this.handover.begin(undefined);
    }
    this.#ticksLeft -= 1;
    return this.#ticksLeft <= 0;
  }

  /**
   * Elections by hand are an operator's: nobody else would campaign when this leader steps down.
   */
  get #isDue(): boolean {
    const { disk, log, timing } = this.state;
    return disk === "stuck" && timing.isAutomatic && log.commit > log.persisted;
  }
}
