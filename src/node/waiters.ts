import { CairnError } from "../errors.js";

/** Callers that wait until an index is applied. */
export class AppliedWaiters {
  #waiting: { index: number; resolve: () => void; reject: (error: unknown) => void }[] = [];

  /** Resolves when `index` is applied; rejects with CANCELLED when the signal is aborted first. */
  wait(index: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(cancelled(index));
      const waiter = { index, resolve: () => done(resolve), reject: (error: unknown) => done(() => reject(error)) };
      const onAbort = () => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        waiter.reject(cancelled(index));
      };
      const done = (settle: () => void) => {
        signal?.removeEventListener("abort", onAbort);
        settle();
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /** Everything up to `index` is applied. */
  reached(index: number): void {
    if (this.#waiting.length === 0) return;
    const ready = this.#waiting.filter((waiter) => waiter.index <= index);
    this.#waiting = this.#waiting.filter((waiter) => waiter.index > index);
    for (const waiter of ready) waiter.resolve();
  }

  failAll(error: unknown): void {
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }
}

function cancelled(index: number): CairnError {
  return new CairnError("CANCELLED", `the caller gave up waiting for index ${index} to be applied`);
}
