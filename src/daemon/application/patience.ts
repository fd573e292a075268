import { setMaxListeners } from "node:events";
import { TIMER_MS_MAX } from "../../base/arguments.js";

/**
 * Ends a wait when the caller's signal is aborted, or the timeout has passed. Call {@link end} when
 * the wait is over.
 */
export class Patience {
  readonly #over = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #deadlineMs: number;

  constructor(
    private readonly caller: AbortSignal | undefined,
    timeoutMs: number,
  ) {
    setMaxListeners(0, this.#over.signal);
    this.#deadlineMs = Date.now() + timeoutMs;
    this.#timer = setTimeout(this.#giveUp, Math.min(timeoutMs, TIMER_MS_MAX));
    if (caller?.aborted) this.#giveUp();
    else caller?.addEventListener("abort", this.#giveUp, { once: true });
  }

  /** Aborted when the caller no longer waits. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Deadline in milliseconds since 1970. */
  get deadlineMs(): number {
    return this.#deadlineMs;
  }

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** The reason for the end. */
  get code(): "CANCELLED" | "TIMEOUT" {
    return this.caller?.aborted === true ? "CANCELLED" : "TIMEOUT";
  }

  /** Releases timer and listener, after the caller has its answer. */
  end(): void {
    clearTimeout(this.#timer);
    this.caller?.removeEventListener("abort", this.#giveUp);
  }

  readonly #giveUp = (): void => this.#over.abort();
}
