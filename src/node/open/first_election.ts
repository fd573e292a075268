import type { Clock } from "../../system/clock.js";
import type { NodeHost } from "../host.js";

/** Times that a {@link FirstElection} works with. */
export interface FirstElectionOptions {
  readonly clock: Clock;
  readonly tickMs: number;
  readonly electionTicks: number;
  /** Returns random numbers from 0 to below 1. */
  readonly random: () => number;
}

/**
 * Makes a node that has just started ask for votes soon, and not only after an election timeout:
 * first within a tick, then every one to two ticks, until it knows a leader. After two election
 * timeouts the node's election timer alone decides. The times are random, so that nodes that were
 * started together seldom compete. The core says when asking is safe; see `Raft.campaignEarly`.
 */
export class FirstElection {
  readonly #endMs: number;
  #cancel: () => void = () => {};

  constructor(
    private readonly host: NodeHost,
    private readonly options: FirstElectionOptions,
  ) {
    const { clock, tickMs, electionTicks } = options;
    this.#endMs = clock.now() + 2 * electionTicks * tickMs;
  }

  /** Begins to ask. Call this once. */
  begin(): void {
    this.#askAfter(0);
  }

  stop(): void {
    this.#cancel();
  }

  #askAfter(ticks: number): void {
    const { clock, tickMs, random } = this.options;
    this.#cancel = clock.after((ticks + random()) * tickMs, () => this.#ask());
  }

  #ask(): void {
    const { host } = this;
    if (host.ending.hasBegun || host.raft.leader !== undefined || this.options.clock.now() >= this.#endMs) return;
    this.#askAfter(1);
    host.ending.attempt(() => host.core((raft) => raft.campaignEarly()));
    host.wake();
  }
}
