import { nameOf } from "../../base/ids.js";
import type { RaftState } from "../state.js";
import type { Replication } from "./replication.js";

/**
 * Transfers leadership (thesis section 3.10): the leader takes no more proposals, brings the
 * target's log up to its own, and tells the target to start an election. If that has not deposed
 * this leader within an election timeout, it resumes its leadership.
 */
export class LeadershipTransfer {
  #target: string | undefined;
  #ticksLeft = 0;
  #isTold = false;
  #hasTold = false;

  constructor(
    private readonly state: RaftState,
    private readonly replication: Replication,
  ) {}

  /** Key of the voter that is to become leader. */
  get target(): string | undefined {
    return this.#target;
  }

  /**
   * Whether this leader has sent TimeoutNow to any target. The target may act on it at any later
   * time, so this leader's lease is void for the rest of its term.
   */
  get hasTold(): boolean {
    return this.#hasTold;
  }

  /**
   * Starts a transfer to the named voter, or without a name to the most caught-up voter. Replaces a
   * transfer that is under way. Returns the reason when it cannot start.
   */
  begin(name: string | undefined): string | undefined {
    const { state } = this;
    const others = state.voters.filter((key) => key !== state.id);
    if (name === nameOf(state.id)) return undefined;
    const named = others.find((key) => nameOf(key) === name);
    if (name !== undefined && named === undefined) return `${name} is not a voter of this cluster`;
    const target = named ?? this.#mostCaughtUp(others);
    if (target === undefined) return "there is no other voter that answers";
    if (target === this.#target) return undefined;
    this.#target = target;
    this.#ticksLeft = state.timing.electionTicks;
    this.#isTold = false;
    this.proceed();
    return undefined;
  }

  /** Sends TimeoutNow to the target once it has the whole log. */
  proceed(): void {
    const { state } = this;
    if (this.#target === undefined || this.#isTold) return;
    if (this.replication.progressOf(this.#target).match < state.log.last.index) return;
    this.#isTold = this.#hasTold = true;
    state.send({ type: "timeout_now", from: state.id, to: this.#target, term: state.term });
  }

  tick(): void {
    if (this.#target === undefined) return;
    this.#ticksLeft -= 1;
    if (this.#ticksLeft > 0) return;
    this.#target = undefined;
  }

  /**
   * Whether the transfer needs no further step: the target has its TimeoutNow, or there is no
   * target.
   */
  get isDone(): boolean {
    return this.#isTold || this.#target === undefined;
  }

  #mostCaughtUp(keys: readonly string[]): string | undefined {
    const followed = keys.map((key) => this.replication.progressOf(key));
    const active = followed.filter(({ answers, state }) => answers && state.kind !== "lost");
    return active.sort((a, b) => b.match - a.match)[0]?.id;
  }
}
