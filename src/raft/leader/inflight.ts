/**
 * Bounds the messages with entries that a follower was sent and has not answered, by number and by
 * bytes.
 */
export class Inflight {
  #messages: { readonly round: number; readonly bytes: number }[] = [];
  #bytes = 0;

  constructor(
    private readonly maxMessages: number,
    private readonly maxBytes: number,
  ) {}

  get isEmpty(): boolean {
    return this.#messages.length === 0;
  }

  /**
   * Whether no further message may be sent now. One message may exceed the limit of bytes, so that
   * an entry of any size can be sent.
   */
  get isFull(): boolean {
    return this.#messages.length >= this.maxMessages || this.#bytes >= this.maxBytes;
  }

  get messages(): number {
    return this.#messages.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(round: number, bytes: number): void {
    this.#messages.push({ round, bytes });
    this.#bytes += bytes;
  }

  /**
   * Removes the message of this round, which is answered, and all earlier ones, which are answered
   * or lost.
   */
  answered(round: number): void {
    let count = 0;
    for (; count < this.#messages.length && this.#messages[count]!.round <= round; count++) {
      this.#bytes -= this.#messages[count]!.bytes;
    }
    if (count > 0) this.#messages.splice(0, count);
  }

  clear(): void {
    this.#messages = [];
    this.#bytes = 0;
  }
}
