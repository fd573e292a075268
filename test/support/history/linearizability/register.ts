import type { Operation } from "../history.js";

/** What a key holds: {@link ABSENT}, or the number that {@link KeyHistory} gives a value. */
export type State = number;

export const ABSENT: State = 0;

/** The states in which an operation can have had the answer that it had. */
export type Need =
  | { readonly kind: "any" }
  | { readonly kind: "is"; readonly state: State }
  | { readonly kind: "not"; readonly state: State }
  | { readonly kind: "present" }
  | { readonly kind: "none" };

export function satisfies(state: State, need: Need): boolean {
  switch (need.kind) {
    case "any":
      return true;
    case "is":
      return state === need.state;
    case "not":
      return state !== need.state;
    case "present":
      return state !== ABSENT;
    case "none":
      return false;
  }
}

/** An operation that took effect between its call and its return. */
export interface KnownOperation {
  readonly operation: Operation;
  readonly call: number;
  readonly ret: number;
  readonly need: Need;
  /** The state behind it, which never depends on the state before it; undefined: it only reads. */
  readonly result: State | undefined;
}

/** A write that may take effect at any time after its call, or never. */
export interface UnknownWrite {
  readonly operation: Operation;
  readonly call: number;
  /** The state without which it changes nothing; undefined: it changes any. */
  readonly from: State | undefined;
  readonly result: State;
}

/** The operations on one key as a register sees them. What cannot have had an effect, and told nothing, is left out. */
export class KeyHistory {
  /** In the order of their returns. */
  readonly known: readonly KnownOperation[];
  /** In the order of their calls. */
  readonly unknown: readonly UnknownWrite[];
  readonly #values: (string | null)[] = [null];
  readonly #numbers = new Map<string | null, State>([[null, ABSENT]]);

  constructor(operations: readonly Operation[]) {
    this.known = operations
      .filter(({ status }) => status === "ok")
      .map((operation) => this.#known(operation))
      .sort((a, b) => a.ret - b.ret);
    this.unknown = operations
      .filter(({ status, op }) => status === "info" && op !== "get")
      .map((operation) => this.#unknown(operation))
      .sort((a, b) => a.call - b.call);
  }

  /** Null stands for a missing key. */
  valueOf(state: State): string | null {
    return this.#values[state]!;
  }

  #known(operation: Operation): KnownOperation {
    const { call, ret } = operation;
    return { operation, call, ret: ret!, ...this.#answered(operation) };
  }

  #answered({ op, value, from, out, found }: Operation): { need: Need; result: State | undefined } {
    switch (op) {
      case "put":
        return { need: { kind: "any" }, result: this.#state(value) };
      case "get":
        return { need: { kind: "is", state: found ? this.#state(out) : ABSENT }, result: undefined };
      case "delete":
        if (found) return { need: { kind: "present" }, result: ABSENT };
        return { need: { kind: "is", state: ABSENT }, result: undefined };
      case "cas":
        if (found) return { need: { kind: "is", state: this.#state(from) }, result: this.#state(value) };
        return { need: this.#mismatch(this.#state(from), out), result: undefined };
    }
  }

  /** What a cas needs that did not swap. */
  #mismatch(from: State, out: string | null | undefined): Need {
    if (out === undefined) return { kind: "not", state: from };
    const met = this.#state(out);
    return met === from ? { kind: "none" } : { kind: "is", state: met };
  }

  #unknown(operation: Operation): UnknownWrite {
    const { op, call, from, value } = operation;
    return {
      operation,
      call,
      from: op === "cas" ? this.#state(from) : undefined,
      result: op === "delete" ? ABSENT : this.#state(value),
    };
  }

  #state(value: string | null | undefined): State {
    const known = this.#numbers.get(value!);
    if (known !== undefined) return known;
    this.#numbers.set(value!, this.#values.length);
    return this.#values.push(value!) - 1;
  }
}
