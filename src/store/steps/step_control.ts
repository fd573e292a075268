import { setTimeout as sleep } from "node:timers/promises";

// Memory that the store's thread and the step's share: no message could be quick enough.

const URGENT_WORD = 0;
const RATE_WORD = 1;
const PROGRESS_WORD = 2;
const WORDS = 3;

const KIB = 1024;
/** Progress is told in parts of so many. */
const WHOLE = 1000;
/** Shorter waits are gathered, in milliseconds; longer ones look for urgency now and then. */
const LEAST_WAIT_MS = 4;
const LOOK_MS = 20;

/** Settings of a step under way, and its progress. */
export class StepControl {
  readonly #words: Int32Array;
  /** When the rate allows the next byte, on the clock of `performance.now()`. */
  #freeAtMs = 0;

  constructor(readonly memory = new SharedArrayBuffer(4 * WORDS)) {
    this.#words = new Int32Array(memory);
  }

  /** Whether writers wait for the step: it then keeps to no rate. */
  get isUrgent(): boolean {
    return Atomics.load(this.#words, URGENT_WORD) === 1;
  }

  set isUrgent(isUrgent: boolean) {
    Atomics.store(this.#words, URGENT_WORD, isUrgent ? 1 : 0);
  }

  /** Bytes that a step may write in a second. */
  get bytesPerSecond(): number {
    return Atomics.load(this.#words, RATE_WORD) * KIB;
  }

  set bytesPerSecond(bytes: number) {
    Atomics.store(this.#words, RATE_WORD, Math.min(2 ** 31 - 1, Math.ceil(bytes / KIB)));
  }

  /** Share of the step that is done, from 0 to 1, about. */
  get progress(): number {
    return Atomics.load(this.#words, PROGRESS_WORD) / WHOLE;
  }

  set progress(share: number) {
    Atomics.store(this.#words, PROGRESS_WORD, Math.floor(Math.min(1, share) * WHOLE));
  }

  /** Called by the step when it has written bytes: waits until the rate allows more. */
  pace(bytes: number): Promise<void> | undefined {
    const rate = this.bytesPerSecond;
    const nowMs = performance.now();
    if (this.isUrgent || rate === 0) {
      this.#freeAtMs = nowMs;
      return undefined;
    }
    this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + (bytes * 1000) / rate;
    return this.#freeAtMs - nowMs < LEAST_WAIT_MS ? undefined : this.#wait();
  }

  async #wait(): Promise<void> {
    for (;;) {
      const leftMs = this.#freeAtMs - performance.now();
      if (leftMs <= 0 || this.isUrgent) return;
      await sleep(Math.min(leftMs, LOOK_MS));
    }
  }
}
