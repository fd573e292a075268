import { limits } from "./limits.js";

// The one check of counters from outside (T6): peers, files, callers. Add rules to it, not beside
// it.

/** The limits that bound counters. */
export type CounterLimit = "termMax" | "indexMax" | "countMax" | "sequenceMax";

/**
 * Describes why a number from outside is not acceptable as a counter: "7, expected 8 to
 * 281474976710656 (indexMax)". Undefined when it is.
 */
export function counterProblem(value: number | bigint, limit: CounterLimit, least = 0): string | undefined {
  const isWhole = typeof value === "bigint" || Number.isSafeInteger(value);
  if (isWhole && value >= least && value <= limits[limit]) return undefined;
  return `${value}, expected ${least} to ${limits[limit]} (${limit})`;
}

/**
 * Describes why a node with this term and this last index must not campaign: one step further would
 * leave the range that its peers accept. Undefined while there is room.
 */
export function exhaustion(term: number, lastIndex: number): string | undefined {
  if (term >= limits.termMax) {
    return `the term ${term} is the highest possible (termMax), so no further election can be held: ${ADVICE}`;
  }
  return logExhaustion(lastIndex);
}

/** Describes why a leader with this last index must not append; undefined while there is room. */
export function logExhaustion(lastIndex: number): string | undefined {
  if (lastIndex < limits.indexMax) return undefined;
  return `the log has reached index ${lastIndex}, the highest possible (indexMax), and accepts no more entries: ${ADVICE}`;
}

const ADVICE = "save the newest snapshot and restore it as a new cluster (cairn snapshot restore)";
