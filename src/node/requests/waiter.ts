/**
 * A caller that waits for something: settled once, after which it no longer listens to its caller's
 * signal.
 */
export interface Waiter<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A promise that somebody else settles, through the waiter that `begin` is given at once. `giveUp`
 * is called if the signal is aborted before that, or was so already: it forgets the waiter and
 * rejects it.
 */
export function waitFor<Answer>(
  signal: AbortSignal | undefined,
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
