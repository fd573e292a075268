import type { MemberEvent } from "./events.js";

/**
 * Milliseconds before the first report: while nodes are started one after the other, waiting is
 * normal.
 */
const SILENT_MS = 2_000;
/** Milliseconds before the same reason is reported again. */
const AGAIN_MS = 10_000;

/**
 * Tracks why a new node waits, and since when. Reports the reason when it lasts, and again from
 * time to time.
 */
export class Waiting {
  #reason: string | undefined;
  #sinceMs = 0;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly onEvent: (event: MemberEvent) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The reason; undefined when the node does not wait. */
  get reason(): string | undefined {
    return this.#reason;
  }

  waits(reason: string): void {
    const now = this.now();
    if (this.#reason === undefined) this.#sinceMs = now;
    if (this.#reason !== reason) this.#toldMs = Number.NEGATIVE_INFINITY;
    this.#reason = reason;
    const ms = now - this.#sinceMs;
    if (ms < SILENT_MS || now - this.#toldMs < AGAIN_MS) return;
    this.#toldMs = now;
    this.onEvent({ kind: "waiting", reason, ms });
  }

  over(): void {
    this.#reason = undefined;
  }
}
