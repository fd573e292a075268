import type { Operation } from "../history.js";
import { ABSENT, type KeyHistory, type KnownOperation, type Need, type State, satisfies } from "./register.js";
import { UnknownWrites, type Usage, type Used } from "./unknown_writes.js";

/** The end of a linear order, and what comes before it. */
export interface Placed {
  readonly operation: Operation;
  readonly before: Placed | undefined;
}

/** A linear order that was begun: all that matters for how it can go on, and the order itself. */
export interface Configuration {
  /** The first known operation, by the order of returns, that has no place. */
  readonly event: number;
  /** The known operations behind it that have a place, ascending. */
  readonly placed: readonly number[];
  readonly state: State;
  readonly used: Used;
  /** How many unknown writes have a place. */
  readonly usedCount: number;
  readonly order: Placed | undefined;
}

/**
 * How a linear order of the operations on a key can be begun and continued.
 *
 * Operations get a place just in time: only when one returns that has none yet, and then only such that were called before that return
 * (Lowe, "Testing for linearizability", 2017). So a configuration holds no more than the operations in flight, however long the history is.
 * Two further arguments leave out what need not be tried:
 *
 * - An operation that only reads is placed as soon as the state allows it: whatever can follow without it can follow with it.
 * - A state that some operation still needs is not left if nothing can lead back to it, see #isLost.
 */
export class Configurations {
  readonly #known: readonly KnownOperation[];
  readonly #unknown: UnknownWrites;
  /** For each event: the operations from it on that were called before its return. */
  readonly #inFlight: readonly (readonly number[])[];
  /** By state: the known operations that need just it, and those that lead to it, ascending. */
  readonly #needing = new Map<State, number[]>();
  readonly #leadingTo = new Map<State, number[]>();

  /** `spend` is called once for each configuration that is looked at, and for each step on the way to one. */
  constructor(
    history: KeyHistory,
    private readonly spend: () => void,
  ) {
    this.#known = history.known;
    this.#unknown = new UnknownWrites(history, spend);
    this.#inFlight = inFlightAtReturns(history.known);
    history.known.forEach(({ need, result }, index) => {
      if (need.kind === "is") append(this.#needing, need.state, index);
      if (result !== undefined) append(this.#leadingTo, result, index);
    });
  }

  start(): Configuration {
    const used = this.#unknown.noneUsed();
    return this.#settle({ event: 0, placed: [], state: ABSENT, used, usedCount: 0, order: undefined });
  }

  /** Whether all known operations have a place. */
  isComplete({ event }: Configuration): boolean {
    return event === this.#known.length;
  }

  /** All ways to give one more known operation a place, those that need no unknown write first. */
  *next(from: Configuration): Generator<Configuration> {
    const waiting = this.#waiting(from);
    for (const index of waiting) {
      if (satisfies(from.state, this.#known[index]!.need)) yield* this.#continue(from, [], index);
    }
    for (const index of waiting) {
      for (const way of this.#ways(this.#known[index]!.need, from)) yield* this.#continue(from, way, index);
    }
  }

  /** The same for configurations that can only differ in what they have used. Values that are dead are one state, unless `telling` them apart. */
  keyOf({ event, placed, state }: Configuration, telling: boolean): string {
    const shown = !telling && this.#unknown.isDead(state, event) ? "dead" : state;
    return `${event} ${shown} ${placed.join()}`;
  }

  /** All that configurations with the same key can differ in, as far as it matters for what can follow. */
  usageOf({ used, state, event }: Configuration): Usage {
    return this.#unknown.usage(used, state, event);
  }

  *#ways(need: Need, { state, used, event }: Configuration): Generator<readonly number[]> {
    if (satisfies(state, need)) return;
    yield* this.#unknown.waysTo(need, state, used, this.#known[event]!.ret, event);
  }

  /** Yields what follows from some unknown writes and a known operation, unless that is lost. */
  *#continue(from: Configuration, way: readonly number[], index: number): Generator<Configuration> {
    this.spend();
    const left = [from.state];
    let to = from;
    for (const group of way) {
      to = this.#use(to, group);
      left.push(to.state);
    }
    to = this.#settle(this.#place(to, index));
    if (!left.some((state) => this.#isLost(state, to))) yield to;
  }

  /** Places the reads that can be, and goes on to the first event whose operation has no place. */
  #settle(from: Configuration): Configuration {
    let settled = from;
    while (!this.isComplete(settled)) {
      for (const index of this.#waiting(settled)) {
        const { need, result } = this.#known[index]!;
        if (result === undefined && satisfies(settled.state, need)) settled = this.#place(settled, index);
      }
      if (settled.placed[0] !== settled.event) return settled;
      settled = { ...settled, event: settled.event + 1, placed: settled.placed.slice(1) };
    }
    return settled;
  }

  #place(from: Configuration, index: number): Configuration {
    const { operation, result } = this.#known[index]!;
    const behind = from.placed.findIndex((other) => other > index);
    const placed = from.placed.toSpliced(behind < 0 ? from.placed.length : behind, 0, index);
    return { ...from, placed, state: result ?? from.state, order: { operation, before: from.order } };
  }

  #use(from: Configuration, group: number): Configuration {
    const { operation, result } = this.#unknown.next(group, from.used);
    const used = from.used.slice();
    used[group]!++;
    return {
      ...from,
      state: result,
      used,
      usedCount: from.usedCount + 1,
      order: { operation, before: from.order },
    };
  }

  /** Whether a known operation still needs a state that is not there and that nothing can lead to any more. */
  #isLost(needed: State, at: Configuration): boolean {
    return (
      needed !== at.state &&
      anyRemains(this.#needing.get(needed), at) &&
      !anyRemains(this.#leadingTo.get(needed), at) &&
      !this.#unknown.canLeadTo(needed, at.used)
    );
  }

  /** The operations in flight that have no place. */
  #waiting({ event, placed }: Configuration): number[] {
    return this.#inFlight[event]!.filter((index) => !placed.includes(index));
  }
}

/** Whether any of some known operations, ascending, has no place. */
function anyRemains(indexes: readonly number[] = [], { event, placed }: Configuration): boolean {
  for (let at = indexes.length - 1; at >= 0 && indexes[at]! >= event; at--) {
    if (!placed.includes(indexes[at]!)) return true;
  }
  return false;
}

function inFlightAtReturns(known: readonly KnownOperation[]): number[][] {
  const byCall = known.map((_, index) => index).sort((a, b) => known[a]!.call - known[b]!.call);
  let called = 0;
  let inFlight: number[] = [];
  return known.map(({ ret }, event) => {
    inFlight = inFlight.filter((index) => index >= event);
    for (; called < byCall.length && known[byCall[called]!]!.call <= ret; called++) inFlight.push(byCall[called]!);
    return inFlight.toSorted((a, b) => a - b);
  });
}

function append(lists: Map<State, number[]>, state: State, index: number): void {
  const list = lists.get(state);
  if (list === undefined) lists.set(state, [index]);
  else list.push(index);
}
