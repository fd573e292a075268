import type { Clock } from "../system/clock.js";

/**
 * A timer that comes later than this was held up, together with everything else in this process, in
 * ms.
 */
const HELD_UP_MS = 100;

/**
 * Calls `run` after `ms` milliseconds of the process's own time. When the process was suspended, or
 * its event loop was busy, timers are due before the network is looked at: an answer that has been
 * there for long would come too late. So a timer that was held up waits again for as long as it was
 * late, `ms` at most. Returns a function that calls it off.
 *
 * `startedAt` says from when the time counts, if that may move while the timer runs. Default: from
 * this call. The process need not stay alive for one that `isBackground`.
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
