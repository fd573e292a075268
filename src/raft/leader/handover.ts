import { nameOf } from "../../base/ids.js";
import type { RaftState } from "../state.js";
import type { Replication } from "./replication.js";

/**
 * Leadership transfer (thesis section 3.10): the leader takes no more proposals, brings the
 * target's log up to its own, and tells it to start an election. If that has not deposed this
 * leader within an election timeout, it goes on leading.
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

  /** Key of the voter that is to lead. */
  get target(): string | undefined {
    return this.#target;
  }

  /**
   * Whether any target was told: it may still act on that, however late, so this leader's lease is
   * worth nothing for the rest of its term.
   */
  get hasTold(): boolean {
    return this.#hasTold;
  }

  /**
   * Begins, in place of a transfer that is under way, to the voter of that name. Without a name: to
   * the voter that is most caught up. Returns why it cannot.
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

  #mostCaughtUp(keys: readonly string[]): string | undefined {
    const followed = keys.map((key) => this.replication.progressOf(key));
    const active = followed.filter(({ answers, state }) => answers && state.kind !== "lost");
    return active.sort((a, b) => b.match - a.match)[0]?.id;
  }
}
