import type { Clock } from "../system/clock.js";

/** A timer that fires later than this, in ms, was held up together with the whole process. */
const HELD_UP_MS = 100;

/**
 * Calls `run` after `ms` milliseconds of the process's own time. Returns a function that cancels
 * it.
 *
 * After the process was suspended, or its event loop was busy, timers fire before the event loop
 * reads the network: an answer that has already arrived would come too late. So a timer that was
 * held up waits again for as long as it was late, `ms` at most.
 *
 * `startedAt` returns the moment from which the time counts, if that moment may move while the
 * timer runs. Default: the moment of this call. A timer that `isBackground` does not keep the
 * process alive.
 */
export function afterAwake(
  clock: Clock,
  ms: number,
  run: () => void,
  { startedAt, isBackground = false }: { readonly startedAt?: () => number; readonly isBackground?: boolean } = {},
): () => void {
  let due = clock.now() + ms;
  let wasHeldUp = false;
  const look = () => {
    const now = clock.now();
    const lateMs = now - due;
    const leftMs = startedAt === undefined ? 0 : startedAt() + ms - now;
    if (leftMs > 0) {
      due = now + leftMs;
      wasHeldUp = false;
      cancel = clock.after(leftMs, look, isBackground);
    } else if (lateMs > HELD_UP_MS && !wasHeldUp) {
      wasHeldUp = true;
      cancel = clock.after(Math.min(lateMs, ms), look, isBackground);
    } else run();
  };
  let cancel = clock.after(ms, look, isBackground);
  return () => cancel();
}
