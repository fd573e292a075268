import { limits } from "../../base/limits.js";

/**
 * The writes of a client that the cluster must remember the answers to: from the oldest that is not
 * done on. The cluster remembers the newest `sessionAnswers` of them; so a write may begin only
 * when it is among as many.
 */
export class WriteWindow {
  /** In order of sequence. */
  readonly #writes = new Map<number, { readonly bytes: number; isDone: boolean }>();
  #bytes = 0;
  #acknowledgedThrough = 0;

  /**
   * Every write up to this sequence is done: its answer is known, or nobody will ask for it again.
   */
  get acknowledgedThrough(): number {
    return this.#acknowledgedThrough;
  }

  /** Whether one more write, of so many bytes, may begin. */
  hasRoom(bytes: number): boolean {
    if (this.#writes.size >= limits.clientWritesInFlight) return false;
    return this.#bytes === 0 || this.#bytes + bytes <= limits.clientWriteBytesInFlight;
  }

  /** A write begins; its sequence is above all earlier ones. */
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
