import type { Replication } from "./replication.js";
import type { RaftState } from "./state.js";

/**
 * Leadership transfer (thesis section 3.10): the leader takes no more proposals, brings the target's log up to its own, and tells it to
 * start an election. If that has not deposed this leader within an election timeout, it goes on leading.
 */
export class Handover {
  #target: string | undefined;
  #ticksLeft = 0;
  #isTold = false;
  #hasTold = false;

  constructor(
    private readonly state: RaftState,
    private readonly replication: Replication,
  ) {}

  /** The voter that is to lead. */
  get target(): string | undefined {
    return this.#target;
  }

  /** Whether any target was told: it may still act on that, however late, so this leader's lease is worth nothing for the rest of its term. */
  get hasTold(): boolean {
    return this.#hasTold;
  }

  /** Begins, in place of a transfer that is under way. Without a target: to the voter that is most caught up. Returns why it cannot. */
  begin(to: string | undefined): string | undefined {
    const { state } = this;
    const others = state.voters.filter((id) => id !== state.id);
    if (to === state.id) return undefined;
    if (to !== undefined && !others.includes(to)) return `${to} is not a voter of this cluster`;
    const target = to ?? this.#mostCaughtUp(others);
    if (target === undefined) return "there is no other voter that answers";
    if (target === this.#target) return undefined;
    this.#target = target;
    this.#ticksLeft = state.timing.electionTicks;
    this.#isTold = false;
    this.proceed();
    return undefined;
  }

  /** Tells the target, once it has the whole log. */
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

  /** Whether nothing is left to be done for the transfer: its target was told, or there is none. */
  get isDone(): boolean {
    return this.#isTold || this.#target === undefined;
  }

  #mostCaughtUp(ids: readonly string[]): string | undefined {
    const active = ids.map((id) => this.replication.progressOf(id)).filter(({ answers }) => answers);
    return active.sort((a, b) => b.match - a.match)[0]?.id;
  }
}
