import { limits } from "../../base/limits.js";

/**
 * Counts the bytes of the calls under way of all Session streams of a node. Above
 * limits.sessionStreamsBytes, clients' streams take their next message in turn: what they have not
 * taken counts among the requests that a server holds.
 */
export class SessionLoad {
  #bytes = 0;
  #waiting: (() => void)[] = [];
  #waking: NodeJS.Immediate | undefined;

  get isFull(): boolean {
    return this.#bytes > limits.sessionStreamsBytes;
  }

  /** Counts calls that begin (above 0) or end (below 0). */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (bytes < 0) this.#wakeSoon();
  }

  /** Resolves when a stream may take a further message; undefined: now. */
  turn(): Promise<void> | undefined {
    if (!this.isFull && this.#waiting.length === 0) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Wakes one stream a turn of the event loop: each may take a message of any size. */
  #wakeSoon(): void {
    if (this.#waiting.length === 0 || this.isFull) return;
    this.#waking ??= setImmediate(() => {
      this.#waking = undefined;
      if (this.isFull) return;
      this.#waiting.shift()?.();
      this.#wakeSoon();
    });
  }
}
