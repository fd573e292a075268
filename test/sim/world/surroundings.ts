// What the code under test takes from the process it runs in, in the simulator's own version: the bundler puts this file in the place of
// node:timers/promises, node:fs/promises, node:os and node:crypto.
import type { SimRandom } from "./random.js";

export { createHash, type Hash } from "node:crypto";
export { constants } from "node:os";
export { nextTurn as setImmediate } from "./time/turns.js";

/** What waits for the system's own time must not be reached. */
export function setTimeout(): never {
  throw new Error("the simulator has no timers of the system");
}

let random: SimRandom | undefined;

/** Where the names come from that the code under test draws in a run. */
export function drawNamesFrom(source: SimRandom): void {
  random = source;
}

export function randomBytes(size: number): Buffer {
  if (random === undefined) throw new Error("a name is drawn outside of a run");
  const source = random;
  return Buffer.from(Array.from({ length: size }, () => source.whole(0, 255)));
}

export function randomUUID(): string {
  const text = randomBytes(16).toString("hex");
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
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
