import { limits } from "../../base/limits.js";

/**
 * Tracks the writes whose answers the cluster must remember: all writes from the oldest unfinished
 * one. The cluster remembers a client's newest `sessionAnswers` writes, so only that many may be in
 * the window at a time.
 */
export class WriteWindow {
  /** In order of sequence. */
  readonly #writes = new Map<number, { readonly bytes: number; isDone: boolean }>();
  #bytes = 0;
  #acknowledgedThrough = 0;

  /**
   * Highest sequence up to which every write is done: its answer is known, or no caller will ask
   * for it again.
   */
  get acknowledgedThrough(): number {
    return this.#acknowledgedThrough;
  }

  /** Tells whether one more write, of this size, may begin. */
  hasRoom(bytes: number): boolean {
    if (this.#writes.size >= limits.clientWritesInFlight) return false;
    return this.#bytes === 0 || this.#bytes + bytes <= limits.clientWriteBytesInFlight;
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
