import type { CairnError } from "../../base/errors.js";
import type { WatchGroup } from "./watch_group.js";

/** The stream of a watch's caller. */
export interface WatchSink {
  /** Whether it may be sent an answer: it holds few bytes that the network has not taken. */
  readonly isReady: boolean;
  /** Sends an answer; `ready` is called when the sink was not ready since, and is again. */
  send(answer: Buffer): void;
  ready: () => void;
  /** Ends the stream with an error, behind what was sent. */
  end(error: CairnError): void;
}

/**
 * A watch of a node. It is `live` when it has everything up to the hub's index, `future` when it
 * begins above that, and else `behind`.
 */
export class Watch {
  state: "live" | "future" | "behind" | "ended" = "behind";
  /** First index that it has not been told of; of a live one, that at which it became live. */
  next: number;
  /** Time of the last answer. */
  answeredMs: number;
  /** Since when it has not taken what it was to be told; undefined: it does. */
  stalledMs: number | undefined;
  /** With previous values: ends their keeping. */
  stopKeeping: (() => void) | undefined;

  constructor(
    readonly group: WatchGroup,
    readonly sink: WatchSink,
    readonly settings: { readonly start: number; readonly progressMs: number; readonly nowMs: number },
  ) {
    this.next = settings.start;
    this.answeredMs = settings.nowMs;
  }
}
