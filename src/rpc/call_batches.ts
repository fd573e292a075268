import { limits } from "../base/limits.js";

/**
 * Gathers calls and sends them over a stream, many in one message: those of one turn of the event
 * loop, and those that come while the network is busy, up to the limits of a Session message.
 */
export class CallBatches<Call extends { readonly bytes: number }> {
  /** Calls that are not sent yet, in order. */
  readonly #unsent = new Set<Call>();
  #phase: "waiting" | "open" | "stopped" = "waiting";
  #isFlushing = false;

  /**
   * @param send sends a message with these calls; resolves when there is room for another one, and
   * never rejects
   * @param soon calls a function at the end of this turn of the event loop
   * @param room returns the number of calls that may be sent now; call {@link resume} when it grows
   */
  constructor(
    private readonly send: (calls: readonly Call[]) => Promise<void>,
    private readonly soon: (run: () => void) => void,
    private readonly room: () => number = () => Number.POSITIVE_INFINITY,
  ) {}

  /** Sends a call, after all calls that were pushed before it. `bytes`: its approximate size. */
  push(call: Call): void {
    this.#unsent.add(call);
    this.#flushSoon();
  }

  /** Drops a call that is not sent yet. */
  drop(call: Call): void {
    this.#unsent.delete(call);
  }

  /** Begins to send. Calls that were pushed before have waited for this. */
  open(): void {
    if (this.#phase === "waiting") this.#phase = "open";
    this.#flushSoon();
  }

  /** Sends calls that have waited for room. */
  resume(): void {
    this.#flushSoon();
  }

  /** Sends nothing more. */
  stop(): void {
    this.#phase = "stopped";
  }

  #flushSoon(): void {
    if (this.#isFlushing || !this.#maySend) return;
    this.#isFlushing = true;
    this.soon(() => void this.#flush());
  }

  async #flush(): Promise<void> {
    while (this.#maySend) await this.send(this.#take());
    this.#isFlushing = false;
  }

  get #maySend(): boolean {
    return this.#phase === "open" && this.#unsent.size > 0 && this.room() > 0;
  }

  /** Takes as many calls as one message holds and as there is room for. */
  #take(): Call[] {
    const calls: Call[] = [];
    const most = Math.min(limits.sessionMessageCalls, this.room());
    let bytes = 0;
    for (const call of this.#unsent) {
      bytes += call.bytes;
      const isFull = calls.length === most || bytes > limits.sessionMessageBytes;
      if (isFull && calls.length > 0) break;
      this.#unsent.delete(call);
      calls.push(call);
    }
    return calls;
  }
}

/**
 * Returns about how many bytes a message takes, or a list of messages: its byte fields, at any
 * depth, and an allowance for each message.
 */
export function messageBytes(part: unknown): number {
  if (typeof part !== "object" || part === null) return 0;
  if (part instanceof Uint8Array) return part.byteLength;
  return Object.values(part).reduce((sum: number, field) => sum + messageBytes(field), PART_BYTES);
}

const PART_BYTES = 16;
