import { limits } from "../../base/limits.js";

/**
 * Tracks the writes whose answers the cluster must remember: all writes from the oldest unfinished
 * one. The cluster remembers a client's newest `sessionAnswers` writes, so only that many may be in
 * the window at a time. The window begins small, and grows while the cluster keeps up.
 */
export class WriteWindow {
  /** In order of sequence. */
  readonly #writes = new Map<number, { readonly bytes: number; isDone: boolean }>();
  #bytes = 0;
  #acknowledgedThrough = 0;
  #size: number = limits.clientWritesAtFirst;
  #largest: number = limits.clientWritesAtFirst;

  /**
   * Highest sequence up to which every write is done: its answer is known, or no caller will ask
   * for it again.
   */
  get acknowledgedThrough(): number {
    return this.#acknowledgedThrough;
  }

  /** Tells whether one more write, of this size, may begin. */
  hasRoom(bytes: number): boolean {
    if (this.#writes.size >= this.#size) return false;
    return this.#bytes === 0 || this.#bytes + bytes <= limits.clientWriteBytesInFlight;
  }

  /** Takes note of the number of answers that the cluster remembers. */
  remembered(answers: number): void {
    this.#largest = Math.max(limits.clientWritesAtFirst, Math.min(answers, limits.clientWritesInFlight));
    this.#size = Math.min(this.#size, this.#largest);
  }

  /**
   * Makes room for as many more writes as were answered, while others wait: the window doubles in
   * the time of one answer.
   */
  grow(answered: number): void {
    this.#size = Math.min(this.#size + answered, this.#largest);
  }

  /** Halves the window: the cluster is too busy. */
  shrink(): void {
    this.#size = Math.max(limits.clientWritesAtFirst, Math.floor(this.#size / 2));
  }

  /** Adds a write. Its sequence must be above all earlier ones. */
  begin(sequence: number, bytes: number): void {
    this.#writes.set(sequence, { bytes, isDone: false });
    this.#bytes += bytes;
  }

  done(sequence: number): void {
    const write = this.#writes.get(sequence);
    if (write === undefined || write.isDone) return;
    write.isDone = true;
    this.#bytes -= write.bytes;
    for (const [oldest, { isDone }] of this.#writes) {
      if (!isDone) return;
      this.#writes.delete(oldest);
      this.#acknowledgedThrough = oldest;
    }
  }
}
