import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";
import { type Waiter, waitFor } from "./waiter.js";

/** Callers that wait until an index is applied. */
export class AppliedWaiters {
  /** The index that each caller waits for. */
  readonly #waiting = new Map<Waiter<void>, number>();

  /** Resolves when `index` is applied; rejects with CANCELLED when the signal is aborted first. */
  wait(index: number, signal?: CancelSignal): Promise<void> {
    return waitFor<void>(
      signal,
      (waiter) => this.#waiting.set(waiter, index),
      (waiter) => {
        this.#waiting.delete(waiter);
        waiter.reject(cancelled(index));
      },
    );
  }

  /** Resolves the callers that wait for `index` or below, which is applied now. */
  reached(index: number): void {
    for (const [waiter, wanted] of this.#waiting) {
      if (wanted > index) continue;
      this.#waiting.delete(waiter);
      waiter.resolve();
    }
  }

  failAll(error: unknown): void {
    for (const waiter of this.#waiting.keys()) waiter.reject(error);
    this.#waiting.clear();
  }
}

function cancelled(index: number): CairnError {
  return new CairnError("CANCELLED", `the caller gave up waiting for index ${index} to be applied`);
}
