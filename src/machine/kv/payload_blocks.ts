// Cuts a payload into blocks, and ends it on a signal.

/**
 * Yields the same bytes in blocks of at most `bytes`: gathers small pieces and cuts large ones. A
 * block is valid until the caller asks for the next.
 */
export async function* blocksOf(
  pieces: AsyncIterable<Uint8Array>,
  bytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const block = Buffer.allocUnsafeSlow(bytes);
  let used = 0;
  for await (const piece of pieces) {
    for (let from = 0; from < piece.byteLength; ) {
      const part = piece.subarray(from, from + bytes - used);
      block.set(part, used);
      used += part.byteLength;
      from += part.byteLength;
      if (used < bytes) continue;
      yield block;
      used = 0;
    }
  }
  if (used > 0) yield block.subarray(0, used);
}

/**
 * Yields the same pieces until the signal is set; then throws the signal's reason, even while the
 * next piece is awaited.
 */
export async function* unlessAborted<T>(
  pieces: AsyncIterable<T>,
  signal: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const iterator = pieces[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const result = await resultUnlessAborted(iterator.next(), signal);
      ended = result.done === true;
      if (result.done) return;
      yield result.value;
    }
  } finally {
    // Not awaited: an iterator that is stuck in next() would not answer before it returns.
    if (!ended) iterator.return?.()?.catch(() => undefined);
  }
}

function resultUnlessAborted<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    result.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
