import { assert } from "../base/assert.js";
import { limits } from "../base/limits.js";
import { bufferedBytes } from "./codec.js";

// Receives the messages of a stream with back-pressure.

/** Source of messages: each `startRead` asks for one more. */
export interface MessageSource<Message> {
  startRead(): void;
  decode(bytes: Buffer): Message;
  /** The consumer stopped before the end. Messages that still arrive are dropped. */
  abandoned(): void;
}

/**
 * Queues the messages of a stream in the order of their arrival, for one consumer. Reads ahead by
 * at most `streamBufferBytes` and one message, and then asks for no more until the consumer has
 * taken some: so HTTP/2 flow control holds the sender back.
 */
export class IncomingMessages<Message> implements AsyncIterableIterator<Message> {
  readonly #source: MessageSource<Message>;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  /** True when a read waits for room. */
  #readHeldBack = false;
  /** The consumer's call of next() that waits for a message. */
  #waiting: { resolve(result: IteratorResult<Message>): void; reject(error: unknown): void } | undefined;
  /** Consumers that want to know that there is a message, and do not take it yet. */
  #awaiting: (() => void)[] = [];
  #state: { is: "open" } | { is: "ended" } | { is: "failed"; error: unknown } | { is: "abandoned" } = { is: "open" };

  constructor(source: MessageSource<Message>) {
    this.#source = source;
  }

  /**
   * Reads the next message as soon as there is room for it. Reads an abandoned stream to its end.
   */
  readNext(): void {
    if (this.#state.is === "ended" || this.#state.is === "failed") return;
    if (this.#queuedBytes > limits.streamBufferBytes) this.#readHeldBack = true;
    else this.#source.startRead();
  }

  /** Takes a message that has arrived. */
  push(bytes: Buffer): void {
    if (this.#state.is !== "open") return;
    if (this.#waiting !== undefined) {
      this.#hand(bytes, this.#takeWaiting());
      return;
    }
    this.#queue.push(bytes);
    this.#queuedBytes += bufferedBytes(bytes);
    this.#arrived();
  }

  /** Ends the stream: there are no more messages. */
  end(): void {
    if (this.#state.is !== "open") return;
    this.#state = { is: "ended" };
    this.#arrived();
    if (this.#waiting !== undefined) this.#takeWaiting().resolve({ done: true, value: undefined });
  }

  /** Fails the stream: the consumer gets the messages that have arrived, then the error. */
  fail(error: unknown): void {
    if (this.#state.is !== "open") return;
    this.#state = { is: "failed", error };
    this.#arrived();
    if (this.#waiting !== undefined) this.#takeWaiting().reject(error);
  }

  /**
   * Ends the stream for its consumer, who gets the error next; drops the messages that have
   * arrived.
   */
  abort(error: unknown): void {
    this.#discard();
    if (this.#state.is === "ended") this.#state = { is: "open" };
    this.fail(error);
  }

  /**
   * Resolves when next() will wait for nothing; undefined: now. A message that was not taken still
   * counts among the requests that the server holds.
   */
  arrival(): Promise<void> | undefined {
    if (this.#queue.length > 0 || this.#state.is !== "open") return undefined;
    return new Promise((resolve) => this.#awaiting.push(resolve));
  }

  next(): Promise<IteratorResult<Message>> {
    assert(this.#waiting === undefined, "a stream of messages has one consumer, which waits for each next()");
    const bytes = this.#queue.shift();
    if (bytes !== undefined) return this.#handQueued(bytes);
    if (this.#state.is === "failed") return Promise.reject(this.#state.error);
    if (this.#state.is !== "open") return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** Stops the consumer: the rest of the stream is dropped. */
  return(): Promise<IteratorResult<Message>> {
    const wasOpen = this.#state.is === "open";
    this.#discard();
    this.#state = { is: "abandoned" };
    this.#arrived();
    if (this.#waiting !== undefined) this.#takeWaiting().resolve({ done: true, value: undefined });
    if (wasOpen) this.#source.abandoned();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #handQueued(bytes: Buffer): Promise<IteratorResult<Message>> {
    this.#queuedBytes -= bufferedBytes(bytes);
    this.#releaseRead();
    return new Promise((resolve, reject) => this.#hand(bytes, { resolve, reject }));
  }

  #hand(bytes: Buffer, to: { resolve(result: IteratorResult<Message>): void; reject(error: unknown): void }): void {
    try {
      to.resolve({ done: false, value: this.#source.decode(bytes) });
    } catch (error) {
      to.reject(error);
    }
  }

  #arrived(): void {
    if (this.#awaiting.length === 0) return;
    const awaiting = this.#awaiting;
    this.#awaiting = [];
    for (const resolve of awaiting) resolve();
  }

  #takeWaiting() {
    const waiting = this.#waiting;
    assert(waiting !== undefined, "somebody waits for a message");
    this.#waiting = undefined;
    return waiting;
  }

  #discard(): void {
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#releaseRead();
  }

  #releaseRead(): void {
    if (!this.#readHeldBack || this.#queuedBytes > limits.streamBufferBytes) return;
    this.#readHeldBack = false;
    this.#source.startRead();
  }
}
