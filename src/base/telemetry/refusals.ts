// Makes the errors of requests that a limit refuses, and counts them: the one place where such an
// error comes about.

import { CairnError, type CairnErrorCode, type CairnErrorOptions } from "../errors.js";
import { limits } from "../limits.js";
import { NamedCounts } from "./measures.js";

/** Name of a limit. */
export type LimitName = keyof typeof limits;

/** Whether a word is the name of a limit. */
export function isLimitName(word: string): word is LimitName {
  return Object.hasOwn(limits, word);
}

/** Codes of errors that a limit causes. */
type LimitCode = Extract<CairnErrorCode, "LIMIT_EXCEEDED" | "BUSY" | "QUEUE_FULL" | "SLOW_WATCHER" | "TIMEOUT">;

/**
 * Refusals of this process because of a limit, by the limit's name: requests, connections and
 * streams that were refused or ended. Those of a client in this process count, too.
 */
export const limitRefusals = new NamedCounts<LimitName>();

/** Returns the error of a request that a limit refuses, and counts the refusal. */
export function overLimit(code: LimitCode, limit: LimitName, text: string, options?: CairnErrorOptions): CairnError {
  limitRefusals.add(limit);
  return new CairnError(code, text, options);
}
