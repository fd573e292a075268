import type { CancelSignal } from "../../base/cancel_signal.js";
import { CairnError } from "../../base/errors.js";

/**
 * A caller that waits for an answer. It is settled once; then it stops listening to the caller's
 * signal.
 */
export interface Waiter<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Returns a promise that is settled through a waiter. `begin` gets the waiter at once. `giveUp` is
 * called if the signal is aborted before the promise settles, or was aborted already: it must
 * forget the waiter and reject it.
 */
export function waitFor<Answer>(
  signal: CancelSignal | undefined,
  begin: (waiter: Waiter<Answer>) => void,
  giveUp: (waiter: Waiter<Answer>) => void,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const onAbort = () => giveUp(waiter);
    const settled = () => signal?.removeEventListener("abort", onAbort);
    const waiter: Waiter<Answer> = {
      resolve: (answer) => {
        settled();
        resolve(answer);
      },
      reject: (error) => {
        settled();
        reject(error);
      },
    };
    begin(waiter);
    if (signal?.aborted) onAbort();
    else signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * Settles like a promise that other callers share; rejects with CANCELLED when this caller gives
 * up.
 */
export function sharing<Value>(shared: Promise<Value>, signal: CancelSignal | undefined, what: string): Promise<Value> {
  return waitFor<Value>(
    signal,
    (waiter) => void shared.then(waiter.resolve, waiter.reject),
    (waiter) => waiter.reject(new CairnError("CANCELLED", `the caller gave up waiting for ${what}`)),
  );
}
