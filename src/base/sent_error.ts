import { InvariantViolation } from "./assert.js";
import { CairnError, type CairnErrorCode } from "./errors.js";

/** An error on its way between threads, where it would lose its class. */
export interface SentError {
  /** Undefined for a broken invariant. */
  readonly code: CairnErrorCode | undefined;
  readonly text: string;
}

export function sentError(error: unknown): SentError {
  if (error instanceof InvariantViolation) return { code: undefined, text: error.message };
  const { code, text } = CairnError.from(error);
  return { code, text };
}

/**
 * Rebuilds the error. One that must end the node on the main thread must also do so when the worker
 * meets it.
 */
export function receivedError({ code, text }: SentError): Error {
  return code === undefined ? new InvariantViolation(text, { thread: "worker" }) : new CairnError(code, text);
}
