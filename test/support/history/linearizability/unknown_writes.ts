import { ABSENT, type KeyHistory, type Need, type State, satisfies, type UnknownWrite } from "./register.js";

/** How many writes of each group have been given a place. */
export type Used = Uint32Array;

/** The part of {@link Used} that still matters. */
export interface Usage {
  /** How many puts of dead values were used. */
  readonly deadPuts: number;
  /** The groups of the others, ascending, each as often as it was used. */
  readonly others: readonly number[];
}

/** Whether all that can be done with the writes that `more` leaves can be done with those that `fewer` leaves. */
export function covers(fewer: Usage, more: Usage): boolean {
  if (fewer.deadPuts > more.deadPuts || fewer.others.length > more.others.length) return false;
  let at = 0;
  for (const group of fewer.others) {
    while (at < more.others.length && more.others[at]! < group) at++;
    if (more.others[at] !== group) return false;
    at++;
  }
  return true;
}

/** Unknown writes that do the same, in the order of their calls. */
interface Group {
  readonly from: State | undefined;
  readonly result: State;
  readonly writes: UnknownWrite[];
}

/**
 * The writes of unknown outcome. Each may be given a place anywhere behind its call, or none, so that a plain search would have to try
 * every subset of them. Four arguments keep it from that; each of them is exact, so that no verdict changes.
 *
 * 1. Writes that do the same are interchangeable, since none has a return to be kept: the one with the earliest call is as good as
 *    any. How many of a group were used says all; which of them does not matter.
 * 2. A value that no operation which still needs a place compares with (no get has read it, no cas expects it) is not distinguishable from any
 *    other such value. So all puts of such dead values do the same from then on, and count as one group. Those that nobody has ever read
 *    are there from the start. They must not be dropped: that a delete found the key may be due to one of them.
 * 3. Using fewer is never worse: what is not used can still be used, or left out. See {@link covers}. The same goes for a cas whose value
 *    cannot come back, used or not.
 * 4. A write is used only to make the very next known operation possible, and no shorter way does. See {@link waysTo}.
 */
export class UnknownWrites {
  readonly #groups: Group[] = [];
  /** Numbers of the groups by the state that they lead to. */
  readonly #leadingTo = new Map<State, number[]>();
  /** By value: the last known operation that compares with it, if any does. */
  readonly #lastCompared: number[] = [];

  /** By value: the last known operation that leads to it, if any does. */
  readonly #lastLedTo: number[] = [];

  /** `spend` is called for each step of a way that is looked at. */
  constructor(
    history: KeyHistory,
    private readonly spend: () => void,
  ) {
    const numbers = new Map<string, number>();
    for (const write of history.unknown) this.#add(write, numbers);
    history.known.forEach(({ need, result }, index) => {
      if (result !== undefined) this.#lastLedTo[result] = index;
      if (need.kind === "is" || need.kind === "not") this.#compared(need.state, index);
    });
  }

  noneUsed(): Used {
    return new Uint32Array(this.#groups.length);
  }

  /** The next write of a group, which is to be given a place. */
  next(group: number, used: Used): UnknownWrite {
    return this.#groups[group]!.writes[used[group]!]!;
  }

  /** Whether any write is left, called so far or later, that leads to the state. */
  canLeadTo(state: State, used: Used): boolean {
    const groups = this.#leadingTo.get(state) ?? [];
    return groups.some((group) => used[group]! < this.#groups[group]!.writes.length);
  }

  /** Whether nothing that has no place before the known operation `event` has returned compares with the state. */
  isDead(state: State, event: number): boolean {
    return state !== ABSENT && (this.#lastCompared[state] ?? -1) < event;
  }

  /** What the writes used so far mean for what can be done from `event` on, in a configuration of this state. */
  usage(used: Used, state: State, event: number): Usage {
    let deadPuts = 0;
    const others: number[] = [];
    used.forEach((times, group) => {
      if (times === 0) return;
      if (this.#isDeadPut(group, event)) deadPuts += times;
      else if (!this.#isDeadCas(group, state, event)) for (let time = 0; time < times; time++) others.push(group);
    });
    return { deadPuts, others };
  }

  /**
   * The sequences of writes, by their groups, called by the time `now`, that lead from a state which does not satisfy `need` to one that does.
   * Only the shortest: none whose purpose is served without some of its writes.
   *
   * They are all that a search has to try, and only right before the known operation that has the need. For take a linear
   * order with the fewest unknown writes, and in it a known operation with unknown writes right before it. If the operation was possible without
   * them and writes, they can be left out, since the state behind it does not depend on the state before. If it only reads, it can be moved before
   * them, which is allowed as none of them has returned. If it needs them, what applies depends on its need:
   * - one certain state: no state comes twice on the way, or the writes between could be left out; and only the first write can be a put or a
   *   delete, or those before could be;
   * - any value, or any but one: the first write that changes the state serves it. A delete overwrites whatever the rest would do;
   *   a read can be moved before the rest.
   */
  *waysTo(need: Need, state: State, used: Used, now: number, event: number): Generator<readonly number[]> {
    if (need.kind === "is") yield* this.#chains(need.state, state, used, now, []);
    else yield* this.#singles(need, state, used, now, event);
  }

  /** Ways to one certain state, found from their end. `behind`: the states that the way will go through. */
  *#chains(to: State, state: State, used: Used, now: number, behind: readonly State[]): Generator<readonly number[]> {
    for (const group of this.#leadingTo.get(to) ?? []) {
      this.spend();
      if (!this.#isLeft(group, used, now)) continue;
      const { from } = this.#groups[group]!;
      if (from === undefined || from === state) yield [group];
      else if (from !== to && !behind.includes(from))
        for (const way of this.#chains(from, state, used, now, [to, ...behind])) yield [...way, group];
    }
  }

  *#singles(need: Need, state: State, used: Used, now: number, event: number): Generator<readonly number[]> {
    let deadPutTried = false;
    for (let group = 0; group < this.#groups.length; group++) {
      const { from, result } = this.#groups[group]!;
      if (!satisfies(result, need) || (from !== undefined && from !== state)) continue;
      if (!this.#isLeft(group, used, now)) continue;
      const isDeadPut = this.#isDeadPut(group, event);
      if (isDeadPut && deadPutTried) continue;
      deadPutTried ||= isDeadPut;
      yield [group];
    }
  }

  #isLeft(group: number, used: Used, now: number): boolean {
    const next = this.next(group, used) as UnknownWrite | undefined;
    return next !== undefined && next.call <= now;
  }

  #isDeadPut(group: number, event: number): boolean {
    const { from, result } = this.#groups[group]!;
    return from === undefined && this.isDead(result, event);
  }

  /** Whether the state that the writes of the group need is not there and cannot come back. */
  #isDeadCas(group: number, state: State, event: number): boolean {
    const { from } = this.#groups[group]!;
    if (from === undefined || from === state || this.#leadingTo.has(from)) return false;
    return (this.#lastLedTo[from] ?? -1) < event;
  }

  #add(write: UnknownWrite, numbers: Map<string, number>): void {
    const { from, result } = write;
    if (from !== undefined) this.#compared(from, Number.POSITIVE_INFINITY);
    const known = numbers.get(`${from} ${result}`);
    if (known !== undefined) {
      this.#groups[known]!.writes.push(write);
      return;
    }
    const number = this.#groups.push({ from, result, writes: [write] }) - 1;
    numbers.set(`${from} ${result}`, number);
    this.#leadingTo.set(result, [...(this.#leadingTo.get(result) ?? []), number]);
  }

  #compared(state: State, index: number): void {
    this.#lastCompared[state] = Math.max(index, this.#lastCompared[state] ?? -1);
  }
}
