import type { Timing } from "../timing.js";

/**
 * Tracks a leader's lease (thesis section 6.4.1): as long as a majority has answered messages so
 * recent that none of those voters grants a vote yet, no other node leads.
 * {@link Timing.leaseTicks} states the assumption about clocks.
 */
export class Lease {
  #now = 0;
  /** First round of each recent tick; it tells when a message was sent. */
  #firstRounds: { readonly tick: number; readonly round: number }[] = [{ tick: 0, round: 1 }];
  /**
   * Answers to messages before this round do not count: this node's clock may have stopped since.
   */
  #trustedRound = 1;

  constructor(private readonly timing: Timing) {}

  /** Ticks since this leadership began. */
  get now(): number {
    return this.#now;
  }

  /** Counts a tick; `round` is that of the next message. */
  tick(round: number): void {
    this.#now += 1;
    if (!this.timing.hasLeases) return;
    this.#firstRounds.push({ tick: this.#now, round });
    if (this.#firstRounds.length > this.timing.leaseTicks) this.#firstRounds.shift();
  }

  /** Lets only messages from this round on count. */
  distrustBefore(round: number): void {
    this.#trustedRound = round;
  }

  /**
   * Returns the tick in which a message was sent, or an earlier one; -Infinity when the message
   * must not count or is too old.
   */
  sentAt(round: number): number {
    if (round < this.#trustedRound) return Number.NEGATIVE_INFINITY;
    return this.#firstRounds.findLast((each) => each.round <= round)?.tick ?? Number.NEGATIVE_INFINITY;
  }

  /**
   * Whether the lease still holds, given that a majority has answered messages sent at `tick` or
   * later.
   */
  lasts(tick: number): boolean {
    return this.timing.hasLeases && this.#now - tick < this.timing.leaseTicks;
  }
}
