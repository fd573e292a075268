import type { Key, Span, Value } from "../values.js";

/** Relation of a key's property to the number that it is compared with. */
export type Relation = "=" | "!=" | "<" | ">";

/** A condition of a transaction; {@link compare} makes it. */
export type Condition =
  | { readonly on: Key | Span; readonly property: "value"; readonly relation: "=" | "!="; readonly expected: Value }
  | {
      readonly on: Key | Span;
      readonly property: "version" | "createVersion";
      readonly relation: Relation;
      readonly expected: number;
    }
  | { readonly on: Key | Span; readonly property: "exists"; readonly relation: "="; readonly expected: boolean };

/** Makes the conditions on one key, or on all keys of a span. */
export class ComparedKeys {
  constructor(private readonly on: Key | Span) {}

  /** The value is, or is not, this one. A missing key has none: "=" does not hold, "!=" does. */
  value(relation: "=" | "!=", expected: Value): Condition {
    return { on: this.on, property: "value", relation, expected };
  }

  /** The version compares so with this number. A missing key has version 0. */
  version(relation: Relation, expected: number): Condition {
    return { on: this.on, property: "version", relation, expected };
  }

  /** The index at which the key was created compares so with this number. A missing key has 0. */
  createVersion(relation: Relation, expected: number): Condition {
    return { on: this.on, property: "createVersion", relation, expected };
  }

  /** The key exists; the span has at least one key. */
  exists(): Condition {
    return { on: this.on, property: "exists", relation: "=", expected: true };
  }

  /** The key does not exist; the span has no key. */
  missing(): Condition {
    return { on: this.on, property: "exists", relation: "=", expected: false };
  }
}

/**
 * Begins a condition for {@link Txn.when} on one key, or on each key of a span. A span without keys
 * fulfils every condition but `exists()`.
 *
 * ```ts
 * compare("user:1").version("=", 42);
 * compare({ prefix: "lock:" }).missing();
 * ```
 */
export function compare(on: Key | Span): ComparedKeys {
  return new ComparedKeys(on);
}
