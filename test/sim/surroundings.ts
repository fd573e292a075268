// What the code under test takes from the process it runs in, in the simulator's own version: the bundler puts this file in the place of
// node:timers/promises, node:fs/promises and node:os.
export { constants } from "node:os";
export { nextTurn as setImmediate } from "./turns.js";

/** What waits for the system's own time must not be reached. */
export function setTimeout(): never {
  throw new Error("the simulator has no timers of the system");
}

/** There is no other system here to be looked at. */
export function readFile(): Promise<never> {
  return Promise.reject(
    Object.assign(new Error("ENOENT: the simulator has no files of the system"), { code: "ENOENT" }),
  );
}

export function hostname(): string {
  return "simulated";
}
