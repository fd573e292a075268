import { setFlagsFromString } from "node:v8";

/**
 * Percentage by which V8's old generation may grow between two full collections. V8's own choice
 * of up to 300 % lets a node under load hold twice the memory: most of its objects die young, but
 * not young enough under hundreds of calls at a time. Full collections run beside the main thread
 * for the most part, and the rate of calls stays the same.
 */
const GROWTH_PERCENT = 60;

/** Keeps the heap of this process, which runs a node, near what it uses. */
export function keepHeapSmall(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
