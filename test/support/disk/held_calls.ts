import { deferred, until } from "../conditions.js";
import type { Call, FaultyFileSystem } from "./faulty_fs.js";

/** Lets each of these calls of the disk wait until `resolve` or `reject` is called; later ones do not wait. */
export function holdCalls(disk: FaultyFileSystem, isHeld: (call: Call) => boolean) {
  const hold = deferred();
  let isReached = false;
  disk.onCall = (call) => {
    if (!isHeld(call)) return;
    isReached = true;
    return hold.promise;
  };
  return {
    resolve: hold.resolve,
    reject: hold.reject,
    /** Waits until there is such a call; `what`: what is going on then. */
    reached: (what: string) => until(() => isReached, what),
  };
}
