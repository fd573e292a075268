import { assert } from "../base/assert.js";

/** Selects when a node campaigns: when its election timer expires, or only on command. */
export type ElectionMode = "automatic" | "manual";

/**
 * Selects how the leader confirms a linearizable read: by a majority's answers to each read (thesis
 * section 6.4), or by a lease (section 6.4.1).
 */
export type ReadMode = "quorum" | "lease";

export interface TimingOptions {
  readonly elections: ElectionMode;
  /**
   * A follower campaigns after it has heard from no leader for electionTicks to 2 * electionTicks -
   * 1 ticks. The value is at least 2.
   */
  readonly electionTicks: number;
  /** Ticks between a leader's heartbeats. At least 1, below electionTicks. Default 1. */
  readonly heartbeatTicks?: number | undefined;
  /**
   * Must be the same on all members, because leases rely on the behaviour of every voter. Default
   * `quorum`.
   */
  readonly reads?: ReadMode | undefined;
  /** Returns random numbers from 0 to below 1. */
  readonly random: () => number;
}

/** Holds every duration that the core counts in ticks. */
export class Timing {
  readonly isAutomatic: boolean;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly hasLeases: boolean;
  readonly #random: () => number;

  constructor({ elections, electionTicks, heartbeatTicks = 1, reads = "quorum", random }: TimingOptions) {
    assert(electionTicks >= 2, "an election timeout has 2 ticks or more", { electionTicks });
    assert(heartbeatTicks >= 1 && heartbeatTicks < electionTicks, "heartbeats come within an election timeout", {
      heartbeatTicks,
      electionTicks,
    });
    this.isAutomatic = elections === "automatic";
    this.electionTicks = electionTicks;
    this.heartbeatTicks = heartbeatTicks;
    this.hasLeases = reads === "lease" && this.isAutomatic;
    this.#random = random;
  }

  /**
   * Returns an election timeout in ticks. It is random, so that voters do not split their votes for
   * ever (Raft section 5.2).
   */
  drawTimeout(): number {
    return this.electionTicks + Math.floor(this.#random() * this.electionTicks);
  }

  /**
   * Length of a lease: the number of ticks for which an answered message keeps the leader's lease,
   * counted from the tick in which it was sent. 0, so no lease, with electionTicks 2. Assumption:
   * while a follower's clock counts electionTicks - 1 ticks (the first may come at once), no
   * leader's clock counts less than nine tenths of that, and neither clock stops unnoticed.
   */
  get leaseTicks(): number {
    return Math.floor((this.electionTicks - 1) * 0.9);
  }
}
