// Times of a lease, as its owner judges them.

/**
 * Time to live of the lease behind a lock or a candidacy, unless the caller sets another, in ms.
 */
export const DEFAULT_TTL_MS = 10_000;

/**
 * Time for which the event loop may be blocked before the keeper stops keeping a lease, unless the
 * caller sets another, in ms.
 */
export const DEFAULT_MAX_BLOCKED_MS = 60_000;

/** Keep-alives are sent this often within a lease's time to live. */
const KEEP_ALIVES_PER_TTL = 3;

/** Bounds of the margin, in ms. */
const MARGIN_MS_LEAST = 100;
const MARGIN_MS_MOST = 5_000;

/** Returns the time between two keep-alives, and the time that one has to be answered. */
export function keepAliveMs(ttlMs: number): number {
  return ttlMs / KEEP_ALIVES_PER_TTL;
}

/**
 * Returns how long a lease that was kept alive is certain to live, from the moment at which the
 * keep-alive was sent. The leader counts the whole time to live from a later moment. The margin of
 * a tenth covers clocks that run at different speeds, and gives the owner time to stop.
 */
export function certainMs(ttlMs: number): number {
  return ttlMs - Math.min(Math.max(ttlMs / 10, MARGIN_MS_LEAST), MARGIN_MS_MOST);
}
