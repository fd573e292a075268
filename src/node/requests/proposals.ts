import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";
import type { ApplyResult } from "../../machine/state_machine.js";
import type { Entry, LogPosition } from "../../raft/types.js";
import type { Clock } from "../../system/clock.js";
import type { NodeMeasures } from "../measures/node_measures.js";
import { type Waiter, waitFor } from "./waiter.js";

/** The result of a proposal that was committed and applied. */
export interface Committed<Result> {
  /** Its index in the log. */
  readonly index: number;
  /** The state machine's answer. */
  readonly result: Result;
}

interface Pending<Result> extends Waiter<Committed<Result>> {
  readonly term: number;
  /** Time of the proposal. */
  readonly startedMs: number;
}

/** The measures of a node's writes. */
type WriteMeasures = Pick<NodeMeasures, "writes" | "failedWrites">;

/** Proposals that are in the log of this node and whose callers wait for them to be applied. */
export class Proposals<Result> {
  readonly #pending = new Map<number, Pending<Result>>();
  /** Highest index that a caller has waited for since the log last ended below it. */
  #highest = 0;

  constructor(
    private readonly clock: Clock,
    private readonly measures: WriteMeasures,
  ) {}

  /** Number of callers that wait. */
  get count(): number {
    return this.#pending.size;
  }

  /**
   * Resolves when the entry at `position` is applied. Rejects with NOT_LEADER when another entry
   * took its place (nothing happened), and with OUTCOME_UNKNOWN when the caller gives up or this
   * node cannot tell: the proposal may still take effect.
   */
  wait(position: LogPosition, signal?: CancelSignal): Promise<Committed<Result>> {
    const { index, term } = position;
    // A proposal of an earlier term is no longer in this node's log, but another member may still
    // commit it.
    this.#reject(this.#pending.get(index), outcomeUnknown(index, "this node has put another entry in its place"));
    this.#highest = Math.max(this.#highest, index);
    return waitFor<Committed<Result>>(
      signal,
      (waiter) => this.#pending.set(index, { term, startedMs: this.clock.now(), ...waiter }),
      (waiter) => {
        this.#pending.delete(index);
        this.#reject(waiter, outcomeUnknown(index, "the caller gave up"));
      },
    );
  }

  /** Answers the callers whose entries were applied, with these results. */
  applied(entries: readonly Entry[], results: readonly ApplyResult<Result>[]): void {
    if (this.#pending.size === 0) return;
    const nowMs = this.clock.now();
    entries.forEach((entry, at) => {
      const pending = this.#pending.get(entry.index);
      if (pending === undefined) return;
      this.#pending.delete(entry.index);
      if (pending.term !== entry.term) {
        this.#reject(pending, new CairnError("NOT_LEADER", `another leader's entry took index ${entry.index}`));
        return;
      }
      this.measures.writes.record(nowMs - pending.startedMs);
      pending.resolve({ index: entry.index, result: results[at]!.result as Result });
    });
  }

  /**
   * Fails proposals above `index`, where the log ends now: they are gone from this node, but
   * another member may still commit them.
   */
  truncated(index: number): void {
    if (index >= this.#highest) return;
    this.#highest = index;
    this.#failWhere((pending) => pending > index, "another leader's log took the place of this node's");
  }

  /**
   * R12: fails proposals at or below `index`, where a snapshot has replaced the log. Nobody can
   * tell whether the snapshot contains them.
   */
  overtaken(index: number): void {
    this.#failWhere((pending) => pending <= index, `a snapshot up to ${index} was installed over it`);
  }

  failAll(reason: string): void {
    this.#failWhere(() => true, reason);
  }

  #failWhere(which: (index: number) => boolean, reason: string): void {
    for (const [index, pending] of this.#pending) {
      if (!which(index)) continue;
      this.#pending.delete(index);
      this.#reject(pending, outcomeUnknown(index, reason));
    }
  }

  #reject(waiter: Waiter<Committed<Result>> | undefined, error: CairnError): void {
    if (waiter === undefined) return;
    this.measures.failedWrites.add(error.code);
    waiter.reject(error);
  }
}

function outcomeUnknown(index: number, reason: string): CairnError {
  return new CairnError("OUTCOME_UNKNOWN", `the write at index ${index} may or may not take effect: ${reason}`);
}
