import { CairnError } from "../errors.js";

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
