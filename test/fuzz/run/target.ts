import type { Random } from "../../support/random.js";

/** Something that is fuzzed. */
export interface Target {
  readonly name: string;
  /** Cases between two calls of {@link check}. */
  readonly round: number;
  /** Starts whatever the cases run against. */
  prepare(): Promise<void>;
  /**
   * Runs a case, which `random` decides, and returns the number of messages in it.
   * @throws Finding
   */
  run(random: Random, trace: Trace): number | Promise<number>;
  /**
   * Checks what only shows after many cases: nothing has leaked, and nothing has changed.
   * @throws Finding
   */
  check(): Promise<void>;
  close(): Promise<void>;
}

/** Notes what a case does, for the report of a finding. */
export type Trace = (what: string, bytes?: Uint8Array) => void;

/** A bug that a case has shown. */
export class Finding extends Error {
  override readonly name = "Finding";
}

/** @throws Finding unless the condition holds */
export function expectThat(condition: boolean, what: () => string): asserts condition {
  if (!condition) throw new Finding(what());
}
