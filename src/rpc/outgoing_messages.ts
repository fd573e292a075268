import { limits } from "../base/limits.js";
import { bufferedBytes } from "./codec.js";

// Sends the messages of a stream with back-pressure.

/**
 * Writes one message; calls `written` when the network has taken it, or never when the stream
 * breaks before that.
 */
export type WriteMessage = (bytes: Buffer, written: () => void) => void;

/** A message that waits until it can be written. */
interface QueuedMessage {
  readonly bytes: Buffer;
  readonly written: () => void;
}

/**
 * Sends the messages of a stream, one write at a time, in order. Holds its callers back while more
 * than `streamBufferBytes` wait behind the write under way. So a slow receiver slows the sender
 * instead of filling its memory, and the sender makes the next message while the network takes the
 * last one, however large they are.
 */
export class OutgoingMessages {
  readonly #write: WriteMessage;
  readonly #queue: QueuedMessage[] = [];
  #waitingBytes = 0;
  #writing = false;
  #failure: { error: unknown } | undefined;
  #ended: (() => void) | undefined;
  /** Callers that wait for room. */
  #callers: { resolve(): void; reject(error: unknown): void }[] = [];

  constructor(write: WriteMessage) {
    this.#write = write;
  }

  /**
   * Sends a message. Resolves when there is room for the next one; rejects when the stream has
   * failed. `written` is called when the network has taken this one, and nothing uses its memory.
   */
  send(bytes: Buffer, written: () => void = () => {}): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    this.#queue.push({ bytes, written });
    this.#waitingBytes += bufferedBytes(bytes);
    this.#writeNext();
    if (this.#waitingBytes <= limits.streamBufferBytes) return Promise.resolve();
    return new Promise((resolve, reject) => this.#callers.push({ resolve, reject }));
  }

  /**
   * Calls `ended` when everything that was sent has been written; never when the stream fails
   * before.
   */
  end(ended: () => void): void {
    if (this.#failure !== undefined) return;
    this.#ended = ended;
    this.#writeNext();
  }

  /**
   * Fails the stream: drops waiting messages, and rejects waiting callers and every later send()
   * with the error.
   */
  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    this.#queue.length = 0;
    this.#ended = undefined;
    const callers = this.#callers;
    this.#callers = [];
    for (const caller of callers) caller.reject(error);
  }

  #writeNext(): void {
    if (this.#writing) return;
    const next = this.#queue.shift();
    if (next === undefined) {
      this.#ended?.();
      this.#ended = undefined;
      return;
    }
    const { bytes, written } = next;
    this.#writing = true;
    this.#waitingBytes -= bufferedBytes(bytes);
    this.#write(bytes, () => {
      written();
      this.#written();
    });
    this.#wakeCallers();
  }

  #written(): void {
    this.#writing = false;
    if (this.#failure === undefined) this.#writeNext();
  }

  #wakeCallers(): void {
    if (this.#callers.length === 0 || this.#waitingBytes > limits.streamBufferBytes) return;
    const callers = this.#callers;
    this.#callers = [];
    for (const caller of callers) caller.resolve();
  }
}
