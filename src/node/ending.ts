import { InvariantViolation } from "../base/assert.js";
import { CairnError, hasCode } from "../base/errors.js";
import type { Raft } from "../raft/raft.js";

/** What the loop ends with when it is stopped in the midst of something that may take long. */
export function isInterruption(error: unknown): boolean {
  return error instanceof CairnError && (error.code === "STOPPED" || error.code === "CANCELLED");
}

/** Ends the process. */
export function rethrow(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Lets the core do something. It throws only when it is broken, which ends the node. */
export function guarded<Result>(raft: Raft, change: (raft: Raft) => Result, fail: (error: unknown) => void): Result {
  try {
    return change(raft);
  } catch (error) {
    fail(error);
    throw error;
  }
}

/**
 * Waits for work of the node. What breaks an invariant, or leaves a disk whose contents are not
 * known, ends the node, whoever comes across it.
 */
export async function watched<Result>(work: Promise<Result>, fail: (error: unknown) => void): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (hasCode(error, "STORAGE_FAILED") || error instanceof InvariantViolation) fail(error);
    throw error;
  }
}
