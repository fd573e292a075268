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
   * A follower campaigns after electionTicks to 2 * electionTicks - 1 ticks without hearing from a
   * leader. 2 or more.
   */
  readonly electionTicks: number;
  /** A leader sends heartbeats after so many ticks. At least 1, below electionTicks. Default 1. */
  readonly heartbeatTicks?: number | undefined;
  /** The same on all members: leases stand on what every voter does. Default `quorum`. */
  readonly reads?: ReadMode | undefined;
  /** Random numbers from 0 to below 1. */
  readonly random: () => number;
}

/** All that is counted in ticks. */
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

  /** Randomised, so that voters do not split their votes for ever (Raft section 5.2). */
  drawTimeout(): number {
    return this.electionTicks + Math.floor(this.#random() * this.electionTicks);
  }

  /**
   * For how many ticks after it was sent an answered message keeps the leader's lease; 0, so never,
   * with electionTicks 2. Assumption: while a follower's clock counts electionTicks - 1 ticks (the
   * first one may come at once), no leader's counts less than nine tenths of that, and neither
   * stands still unnoticed.
   */
  get leaseTicks(): number {
    return Math.floor((this.electionTicks - 1) * 0.9);
  }
}
