import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";
import { type Waiter, waitFor } from "./waiter.js";

/** Callers that wait for an answer from the core, by the request id that the core carries along. */
export class PendingAnswers<Answer> {
  readonly #waiting = new Map<number, Waiter<Answer>>();

  /**
   * Resolves with the answer to `requestId`; rejects with CANCELLED when the signal is aborted
   * first.
   */
  wait(requestId: number, signal?: CancelSignal): Promise<Answer> {
    return waitFor<Answer>(
      signal,
      (waiter) => this.#waiting.set(requestId, waiter),
      () => this.reject(requestId, new CairnError("CANCELLED", "the caller gave up waiting")),
    );
  }

  /** Does nothing when no caller waits for this id. */
  resolve(requestId: number, answer: Answer): void {
    this.#take(requestId)?.resolve(answer);
  }

  /** Does nothing when no caller waits for this id. */
  reject(requestId: number, error: unknown): void {
    this.#take(requestId)?.reject(error);
  }

  rejectAll(error: unknown): void {
    for (const requestId of [...this.#waiting.keys()]) this.reject(requestId, error);
  }

  #take(requestId: number): Waiter<Answer> | undefined {
    const waiting = this.#waiting.get(requestId);
    this.#waiting.delete(requestId);
    return waiting;
  }
}
