/**
 * Returns a signal that aborts with the first of these, for the same reason. Call `end` when nobody
 * listens to it any more: the others may live much longer.
 */
export function joinedSignal(signals: readonly (AbortSignal | undefined)[]): {
  readonly signal: AbortSignal;
  readonly end: () => void;
} {
  const controller = new AbortController();
  const stops: (() => void)[] = [];
  for (const each of signals) {
    if (each === undefined) continue;
    const abort = () => controller.abort(each.reason);
    if (each.aborted) abort();
    each.addEventListener("abort", abort, { once: true });
    stops.push(() => each.removeEventListener("abort", abort));
  }
  return {
    signal: controller.signal,
    end: () => {
      for (const stop of stops) stop();
    },
  };
}
