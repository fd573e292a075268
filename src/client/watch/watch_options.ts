import {
  checkFlag,
  checkObject,
  checkOneOf,
  checkSignal,
  checkWholeNumber,
  invalid,
  TIMER_MS_MAX,
} from "../../base/arguments.js";
import { CairnError } from "../../base/errors.js";
import { checkTimeout } from "../options.js";
import { positionBefore, type WatchPosition } from "./watch_position.js";

/** Options of a watch. */
export interface WatchOptions {
  /**
   * A token of an earlier watch, to resume behind it; or the first index to report, such as a
   * version. An index that the cluster has not reached is waited for. Default: from now on.
   */
  readonly from?: string | number | undefined;
  /**
   * Yields the keys that exist, by a linearizable read, and then each change after that read. When
   * the history is gone, the watch starts over, and yields `restarted` first. Not with
   * `from`. Default false.
   */
  readonly initial?: boolean | undefined;
  /** Events also have the value before the change, where the node still knows it. Default false. */
  readonly previous?: boolean | undefined;
  /** Only changes that set keys, or only those that remove them. Default: both. */
  readonly only?: "puts" | "deletes" | undefined;
  /**
   * Yields `progress` at least once in this many milliseconds while no key changes; 100 or more.
   * Default: no such events.
   */
  readonly progressMs?: number | undefined;
  /** Ends the watch with CANCELLED. Leave the loop, or call `close()`, for an end without error. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Ends the watch with TIMEOUT when no node has served it for this many milliseconds. Default: the
   * client's `timeoutMs` until it is served for the first time, and then no limit.
   */
  readonly timeoutMs?: number | undefined;
}

/** Checked options. */
export interface WatchSettings {
  /** Undefined: from now on. */
  readonly from: WatchPosition | undefined;
  readonly initial: boolean;
  readonly previous: boolean;
  readonly only: "puts" | "deletes" | undefined;
  readonly progressMs: number | undefined;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
}

const PROGRESS_MS_LEAST = 100;
const CHOICES = ["puts", "deletes"] as const;

/** @throws CairnError INVALID_ARGUMENT */
export function watchSettings(options: WatchOptions): WatchSettings {
  const { from, only, progressMs, timeoutMs } = checkObject("options", options);
  const initial = checkFlag("initial", options.initial);
  if (initial && from !== undefined) {
    throw new CairnError("INVALID_ARGUMENT", "a watch has either from or initial, not both");
  }
  if (progressMs !== undefined) {
    checkWholeNumber("progressMs", progressMs, PROGRESS_MS_LEAST);
    if (progressMs > TIMER_MS_MAX / 2) throw invalid("progressMs", `at most ${TIMER_MS_MAX / 2}`, progressMs);
  }
  return {
    from: from === undefined ? undefined : positionBefore(from),
    initial,
    previous: checkFlag("previous", options.previous),
    only: only === undefined ? undefined : checkOneOf("only", only, CHOICES),
    progressMs,
    signal: checkSignal(options.signal),
    timeoutMs: timeoutMs === undefined ? undefined : checkTimeout(timeoutMs),
  };
}
