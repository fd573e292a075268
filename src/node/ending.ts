import { InvariantViolation } from "../base/assert.js";
import { CairnError, hasCode } from "../base/errors.js";
import type { Raft } from "../raft/raft.js";

// Errors that end a node, and errors that only show that it is being stopped.

/**
 * Returns whether the loop ended with this error because it was stopped during work that may take
 * long.
 */
export function isInterruption(error: unknown): boolean {
  return error instanceof CairnError && (error.code === "STOPPED" || error.code === "CANCELLED");
}

/** Throws the error outside any promise, which ends the process. */
export function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Runs a change on the core. The core throws only when it is broken, and that ends the node. */
export function guarded<Result>(raft: Raft, change: (raft: Raft) => Result, fail: (error: unknown) => void): Result {
  try {
    return change(raft);
  } catch (error) {
    fail(error);
    throw error;
  }
}

/**
 * Waits for work of the node. An error that breaks an invariant, or that leaves the contents of the
 * disk unknown, ends the node, no matter which part runs into it.
 */
export async function watched<Result>(work: Promise<Result>, fail: (error: unknown) => void): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (hasCode(error, "STORAGE_FAILED") || error instanceof InvariantViolation) fail(error);
    throw error;
  }
}
