import { CairnError } from "../../base/errors.js";

// Ends the writing of a snapshot when an AbortSignal is set.

/** Throws CANCELLED when the signal is set. */
export function checkNotAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled(signal);
}

/**
 * Yields the pieces of `source`, and returns its result. Throws CANCELLED as soon as the signal is
 * set, even while `source` is still busy with the next piece.
 */
export async function* abortable<Piece, Result>(
  source: AsyncIterable<Piece, Result, void>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Piece, Result, void> {
  if (signal === undefined) return yield* source;
  const iterator = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const step = await unlessAborted(() => iterator.next(), signal);
      if (step.done) return step.value;
      yield step.value;
    }
  } finally {
    // Not awaited: a source that is busy, perhaps for ever, cleans up when it can.
    const closing = Promise.resolve(iterator.return?.());
    if (signal.aborted) closing.catch(() => undefined);
    else await closing;
  }
}

function unlessAborted<Result>(task: () => Promise<Result>, signal: AbortSignal): Promise<Result> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled(signal));
    const abort = () => reject(cancelled(signal));
    signal.addEventListener("abort", abort, { once: true });
    task()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", abort));
  });
}

function cancelled(signal: AbortSignal): CairnError {
  return new CairnError("CANCELLED", "writing the snapshot was cancelled", { cause: signal.reason });
}
