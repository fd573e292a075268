import { type CounterLimit, counterProblem } from "../base/counters.js";
import { CairnError } from "../base/errors.js";

// Converts counters of messages, the one way of counters into the program (T6): 64 bits outside, a
// number inside.

/**
 * Converts a term.
 * @throws CairnError INVALID_ARGUMENT above termMax
 */
export function toTerm(value: bigint, field: string): number {
  return checked(value, field, "termMax");
}

/**
 * Converts a log index.
 * @throws CairnError INVALID_ARGUMENT above indexMax
 */
export function toIndex(value: bigint, field: string): number {
  return checked(value, field, "indexMax");
}

/**
 * Converts any other number: a size in bytes, an offset, a count.
 * @throws CairnError INVALID_ARGUMENT above countMax
 */
export function toCount(value: bigint, field: string): number {
  return checked(value, field, "countMax");
}

function checked(value: bigint, field: string, limit: CounterLimit): number {
  const problem = counterProblem(value, limit);
  if (problem !== undefined) throw new CairnError("INVALID_ARGUMENT", `${field} is ${problem}`);
  return Number(value);
}
