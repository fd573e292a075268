import { statSync } from "node:fs";
import { limits } from "../../base/limits.js";

// Notices changes of a file.

/** Returns a text that changes when a file does; "missing" when it cannot be looked at. */
export function stampOf(path: string): string {
  try {
    const { ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch {
    return "missing";
  }
}

/**
 * Calls `changed` after a file has changed, been replaced, or come back, since it had this stamp.
 * Looks at it from time to time: that also sees a file behind a symbolic link that is turned to
 * another one, as in a volume of a container. Never keeps the process alive. Returns a function
 * that ends it.
 */
export function watchFile(path: string, stamp: string, changed: () => void): () => void {
  let last = stamp;
  const timer = setInterval(() => {
    const now = stampOf(path);
    if (now === last) return;
    last = now;
    changed();
  }, limits.accessLookMs);
  timer.unref();
  return () => clearInterval(timer);
}
