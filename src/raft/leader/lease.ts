import type { Timing } from "../timing.js";

/**
 * A leader's lease (thesis section 6.4.1): as long as a majority has answered messages so young
 * that none of it votes for anybody yet, nobody else leads. The clocks' part in this is in {@link
 * Timing.leaseTicks}.
 */
export class Lease {
  #now = 0;
  /** First round of each of the last ticks: tells when a message was sent. */
  #firstRounds: { readonly tick: number; readonly round: number }[] = [{ tick: 0, round: 1 }];
  /**
   * Answers to messages before this round say nothing: this node's clock may have stood still
   * since.
   */
  #trustedRound = 1;

  constructor(private readonly timing: Timing) {}

  /** Ticks since the beginning of this leadership. */
  get now(): number {
    return this.#now;
  }

  /** Time has passed; `round` is that of the next message. */
  tick(round: number): void {
    this.#now += 1;
    if (!this.timing.hasLeases) return;
    this.#firstRounds.push({ tick: this.#now, round });
    if (this.#firstRounds.length > this.timing.leaseTicks) this.#firstRounds.shift();
  }

  /** Only messages from this round on count. */
  distrustBefore(round: number): void {
    this.#trustedRound = round;
  }

  /**
   * The tick in which a message was sent, or an earlier one; -Infinity when it must not count, or
   * is too old to.
   */
  sentAt(round: number): number {
    if (round < this.#trustedRound) return Number.NEGATIVE_INFINITY;
    return this.#firstRounds.findLast((each) => each.round <= round)?.tick ?? Number.NEGATIVE_INFINITY;
  }

  /**
   * Whether it lasts still, when a majority has answered messages that were sent at `tick` or
   * later.
   */
  lasts(tick: number): boolean {
    return this.timing.hasLeases && this.#now - tick < this.timing.leaseTicks;
  }
}
