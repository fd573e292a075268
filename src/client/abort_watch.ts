/**
 * Watches abort signals with one listener for each signal, however many calls share it: Node
 * reports more than ten listeners on one signal as a leak.
 */
export class AbortWatch {
  readonly #watched = new Map<AbortSignal, { readonly calls: Set<() => void>; readonly listener: () => void }>();

  /** Calls `onAbort` when the signal is aborted. Returns a function that stops the watch. */
  add(signal: AbortSignal, onAbort: () => void): () => void {
    const { calls } = this.#watched.get(signal) ?? this.#watch(signal);
    calls.add(onAbort);
    return () => {
      calls.delete(onAbort);
      if (calls.size === 0) this.#unwatch(signal);
    };
  }

  #watch(signal: AbortSignal) {
    const calls = new Set<() => void>();
    const listener = () => {
      for (const onAbort of [...calls]) onAbort();
    };
    const watched = { calls, listener };
    this.#watched.set(signal, watched);
    signal.addEventListener("abort", listener, { once: true });
    return watched;
  }

  #unwatch(signal: AbortSignal): void {
    const watched = this.#watched.get(signal);
    if (watched === undefined || watched.calls.size > 0) return;
    this.#watched.delete(signal);
    signal.removeEventListener("abort", watched.listener);
  }
}
