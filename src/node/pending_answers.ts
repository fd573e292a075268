import { CairnError } from "../errors.js";

interface Waiting<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** Callers that wait for an answer that comes out of the core, by the id that the core carries along. */
export class PendingAnswers<Answer> {
  readonly #waiting = new Map<number, Waiting<Answer>>();

  /** Resolves with the answer to `requestId`; rejects with CANCELLED when the signal is aborted first. */
  wait(requestId: number, signal?: AbortSignal): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const onAbort = () => this.reject(requestId, new CairnError("CANCELLED", "the caller gave up waiting"));
      const settled = () => signal?.removeEventListener("abort", onAbort);
      this.#waiting.set(requestId, {
        resolve: (answer) => {
          settled();
          resolve(answer);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
      if (signal?.aborted) onAbort();
      else signal?.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Does nothing when nobody waits for it. */
  resolve(requestId: number, answer: Answer): void {
    this.#take(requestId)?.resolve(answer);
  }

  /** Does nothing when nobody waits for it. */
  reject(requestId: number, error: unknown): void {
    this.#take(requestId)?.reject(error);
  }

  rejectAll(error: unknown): void {
    for (const requestId of [...this.#waiting.keys()]) this.reject(requestId, error);
  }

  #take(requestId: number): Waiting<Answer> | undefined {
    const waiting = this.#waiting.get(requestId);
    this.#waiting.delete(requestId);
    return waiting;
  }
}
