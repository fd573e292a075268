import { nameOf } from "../../base/ids.js";
import { ALLOWED, type Permission } from "../../base/permission.js";
import type { RaftState } from "../state.js";
import type { Replication } from "./replication.js";

/**
 * Transfers leadership (thesis section 3.10): the leader takes no more proposals, brings the
 * target's log up to its own, and tells the target to start an election. If that has not deposed
 * this leader within an election timeout, it resumes its leadership.
 */
export class LeadershipTransfer {
  /** The transfer under way; undefined when there is none. */
  #current: { readonly target: string; ticksLeft: number; isTold: boolean } | undefined;
  #hasTold = false;

  constructor(
    private readonly state: RaftState,
    private readonly replication: Replication,
  ) {}

  /** Key of the voter that is to become leader. */
  get target(): string | undefined {
    return this.#current?.target;
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
   * transfer that is under way. Changes nothing when it is refused, or when this leader itself is
   * named.
   */
  begin(name: string | undefined): Permission {
    const { state } = this;
    const others = state.voters.filter((key) => key !== state.id);
    if (name === nameOf(state.id)) return ALLOWED;
    const named = others.find((key) => nameOf(key) === name);
    if (name !== undefined && named === undefined) return { refused: `${name} is not a voter of this cluster` };
    const target = named ?? this.#mostCaughtUp(others);
    if (target === undefined) return { refused: "there is no other voter that answers" };
    if (target === this.target) return ALLOWED;
    this.#current = { target, ticksLeft: state.timing.electionTicks, isTold: false };
    this.proceed();
    return ALLOWED;
  }

  /** Sends TimeoutNow to the target once it has the whole log. */
  proceed(): void {
    const { state } = this;
    const current = this.#current;
    if (current === undefined || current.isTold) return;
    if (this.replication.progressOf(current.target).match < state.log.last.index) return;
    current.isTold = this.#hasTold = true;
    state.send({ type: "timeout_now", from: state.id, to: current.target, term: state.term });
  }

  tick(): void {
    if (this.#current === undefined) return;
    this.#current.ticksLeft -= 1;
    if (this.#current.ticksLeft <= 0) this.#current = undefined;
  }

  /**
   * Whether the transfer needs no further step: the target has its TimeoutNow, or there is no
   * target.
   */
  get isDone(): boolean {
    return this.#current === undefined || this.#current.isTold;
  }

  #mostCaughtUp(keys: readonly string[]): string | undefined {
    const followed = keys.map((key) => this.replication.progressOf(key));
    const active = followed.filter(({ answers, state }) => answers && state.kind !== "lost");
    return active.sort((a, b) => b.match - a.match)[0]?.id;
  }
}
