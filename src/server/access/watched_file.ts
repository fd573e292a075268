import { unwatchFile, watchFile as watchStat } from "node:fs";
import { limits } from "../../base/limits.js";

/**
 * Calls `changed` after a file has changed, been replaced, or come back. Looks at it from time to
 * time: that also sees a file behind a symbolic link that is turned to another one, as in a volume
 * of a container. Never keeps the process alive. Returns a function that ends it.
 */
export function watchFile(path: string, changed: () => void): () => void {
  const listener = () => changed();
  watchStat(path, { persistent: false, interval: limits.accessLookMs }, listener);
  return () => unwatchFile(path, listener);
}
