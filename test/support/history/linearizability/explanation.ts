import type { Operation } from "../history.js";
import { KeyHistory } from "./register.js";
import { findLinearOrder, statesAtEnd } from "./search.js";

/** How far a history of one key that is not linearizable can be followed, and where that ends. */
export interface Explanation {
  /**
   * The longest linear order that was found: all that returned before `culprit`, and what else is needed for that. Operations that were in
   * flight when it ended are "info" in it.
   */
  readonly prefix: readonly Operation[];
  /**
   * What the key can hold when all that returned before `culprit` has taken effect, in any order; of unknown puts with values that nobody
   * reads only one is tried. Empty if that was not decided.
   */
  readonly states: readonly (string | null)[];
  /** The operation with whose return no linear order is left. */
  readonly culprit: Operation;
  /** Those that were in flight when it returned, and have no place in the prefix either. */
  readonly inFlight: readonly Operation[];
}

/**
 * Explains a violation by the shortest beginning of the history that is one. What is in flight at the end of a beginning has an unknown
 * outcome there, so that nothing is blamed for what came later. Beginnings of a linearizable history are linearizable, so the first that
 * is not can be found by halving, from where the search got to (`reached`), which is seldom far. A beginning that cannot be decided in
 * `stepLimit` steps counts as linearizable, which may make the one that is found longer.
 */
export function explain(operations: readonly Operation[], reached: number, stepLimit: number): Explanation {
  const beginnings = new Beginnings(operations);
  let linearizable = reached;
  let violating = beginnings.count;
  for (let gap = 1; violating - linearizable > 1; gap *= 2) {
    const middle = Math.min(linearizable + gap, Math.floor((linearizable + violating) / 2));
    const found = findLinearOrder(beginnings.first(middle), stepLimit);
    if (found.outcome === "violation") {
      violating = middle;
      linearizable = Math.max(linearizable, found.reached);
    } else linearizable = middle;
  }
  const longest = findLinearOrder(beginnings.first(linearizable), stepLimit);
  const prefix = longest.outcome === "ok" ? longest.order : [];
  const placed = new Set(prefix.map(beginnings.original));
  return {
    prefix,
    states: statesAtEnd(beginnings.first(linearizable), stepLimit),
    culprit: beginnings.last(violating),
    inFlight: beginnings.inFlight(violating).filter((operation) => !placed.has(operation)),
  };
}

/** The history up to each return of a known operation. */
class Beginnings {
  readonly #returned: readonly Operation[];
  readonly #unknown: readonly Operation[];
  readonly #originals = new Map<Operation, Operation>();

  constructor(operations: readonly Operation[]) {
    this.#returned = operations.filter(({ status }) => status === "ok").sort((a, b) => a.ret! - b.ret!);
    this.#unknown = operations.filter(({ status }) => status === "info");
  }

  get count(): number {
    return this.#returned.length;
  }

  /** The operation whose return ends the beginning with so many returns. */
  last(returns: number): Operation {
    return this.#returned[returns - 1]!;
  }

  first(returns: number): KeyHistory {
    if (returns === 0) return new KeyHistory([]);
    return new KeyHistory([
      ...this.#returned.slice(0, returns),
      ...this.inFlight(returns).map((operation) => this.#asUnknown(operation)),
      ...this.#unknown,
    ]);
  }

  inFlight(returns: number): Operation[] {
    const end = this.last(returns).ret!;
    return this.#returned.slice(returns).filter(({ call }) => call <= end);
  }

  /** What an operation of a beginning is in the whole history. */
  readonly original = (operation: Operation): Operation => this.#originals.get(operation) ?? operation;

  #asUnknown(operation: Operation): Operation {
    const { found: _found, out: _out, ...asked } = operation;
    const unknown: Operation = { ...asked, status: "info", ret: null };
    this.#originals.set(unknown, operation);
    return unknown;
  }
}
