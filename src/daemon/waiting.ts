import type { MemberEvent } from "./events.js";

/**
 * A start in which the nodes come one after the other says nothing before so many milliseconds have
 * passed.
 */
const SILENT_MS = 2_000;
/** The same reason is told again after so many milliseconds. */
const AGAIN_MS = 10_000;

/** Why a new node does not go on, and since when: told when it lasts, and again now and then. */
export class Waiting {
  #reason: string | undefined;
  #sinceMs = 0;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly onEvent: (event: MemberEvent) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Undefined when it does not wait. */
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
