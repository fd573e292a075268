import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";
import { type Waiter, waitFor } from "./waiter.js";

/** Callers that wait until the node reaches some state. */
export class Conditions {
  readonly #waiting = new Map<Waiter<never>, () => unknown>();

  /** `observer`: called after every change, after the waiting callers. */
  constructor(private readonly observer?: () => void) {}

  /**
   * Resolves with the first answer of `look` that is not undefined; rejects with the error that it
   * throws. `look` is called now, and after each change. Rejects with CANCELLED when the signal is
   * aborted first.
   */
  wait<Answer>(look: () => Answer | undefined, what: string, signal?: CancelSignal): Promise<Answer> {
    return waitFor<Answer>(
      signal,
      (waiter) => {
        this.#waiting.set(waiter as Waiter<never>, look);
        this.#lookFor(waiter as Waiter<never>, look);
      },
      (waiter) => {
        this.#waiting.delete(waiter as Waiter<never>);
        waiter.reject(new CairnError("CANCELLED", `the caller gave up waiting for ${what}`));
      },
    );
  }

  /** Asks the waiting callers' conditions again, because the node's state has changed. */
  changed(): void {
    for (const [waiter, look] of this.#waiting) this.#lookFor(waiter, look);
    this.observer?.();
  }

  failAll(error: unknown): void {
    for (const waiter of this.#waiting.keys()) waiter.reject(error);
    this.#waiting.clear();
  }

  #lookFor(waiter: Waiter<never>, look: () => unknown): void {
    try {
      const answer = look();
      if (answer === undefined) return;
      this.#waiting.delete(waiter);
      waiter.resolve(answer as never);
    } catch (error) {
      this.#waiting.delete(waiter);
      waiter.reject(error);
    }
  }
}
