import type { Found, Progress } from "./run/lane.js";

export interface FuzzOptions {
  /** Default: all. */
  readonly targets?: readonly string[] | undefined;
  readonly seed: number;
  /** Time for each lane, in milliseconds. */
  readonly ms: number;
  /** Runs only these cases of the one target: from the first to the last. */
  readonly cases?: readonly [first: number, last: number] | undefined;
  /** Called with all messages so far, by target, and what one lane has just said. */
  readonly onProgress?: (messages: Readonly<Record<string, number>>, progress: Progress) => void;
}

/** Runs targets, in processes of their own. */
export function runFuzz(
  options: FuzzOptions,
): Promise<{ readonly messages: Readonly<Record<string, number>>; readonly found: readonly Found[] }>;
