import type { Clock } from "../clock.js";

/** A timer that comes later than this was held up, together with everything else in this process, in ms. */
const HELD_UP_MS = 100;

/**
 * Calls `run` after `ms` milliseconds of the process's own time. When the process was suspended, or its event loop was busy, timers are due
 * before the network is looked at: an answer that has been there for long would come too late. So a timer that was held up waits again for
 * as long as it was late, `ms` at most. Returns a function that calls it off.
 */
export function afterAwake(clock: Clock, ms: number, run: () => void): () => void {
  const due = clock.now() + ms;
  let cancel = clock.after(ms, () => {
    const lateMs = clock.now() - due;
    if (lateMs <= HELD_UP_MS) run();
    else cancel = clock.after(Math.min(lateMs, ms), run);
  });
  return () => cancel();
}
