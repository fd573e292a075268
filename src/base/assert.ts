/**
 * Reports a broken invariant: a bug, or data that cannot be trusted. The process must stop; nothing
 * may build on its state.
 */
export class InvariantViolation extends Error {
  override readonly name = "InvariantViolation";

  constructor(
    what: string,
    /** The observed values, for the engineer who investigates. */
    readonly facts: Readonly<Record<string, unknown>>,
  ) {
    super(`broken invariant: ${what} (${describe(facts)})`);
  }
}

/** Throws {@link InvariantViolation} unless `condition` holds. */
export function assert(
  condition: boolean,
  what: string,
  facts: Readonly<Record<string, unknown>> = {},
): asserts condition {
  if (!condition) throw new InvariantViolation(what, facts);
}

/** Checks that a log index or term is a whole number from 0 to 2^53 - 1. */
export function assertCount(value: number, name: string): void {
  assert(Number.isSafeInteger(value) && value >= 0, `${name} is a whole number from 0 to 2^53 - 1`, { [name]: value });
}

function describe(facts: Readonly<Record<string, unknown>>): string {
  return Object.entries(facts)
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join(", ");
}
