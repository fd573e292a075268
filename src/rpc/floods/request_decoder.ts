import { limits } from "../../base/limits.js";

// Splits the bytes of a call into gRPC messages, within a budget.

const HEAD_BYTES = 5;
const NONE: Buffer[] = [];

/**
 * The fate of a message: it is taken, it waits for room with all that follows, or the call was
 * refused.
 */
export type Admission = "taken" | "held" | "refused";

/** Decides about the messages of one call. */
export interface MessageAdmission {
  /** A message of this many bytes begins. */
  begins(bytes: number, isCompressed: boolean): Admission;
  /** The message has arrived. */
  arrived(): void;
}

/**
 * Takes the place of grpc-js's decoder, whose memory has no bound for all calls together, and which
 * keeps an object for each piece of a message, however small. This one asks for room as soon as a
 * message says how large it is, and copies its pieces to their place.
 */
export class RequestDecoder {
  readonly #admission: MessageAdmission;
  #head: Buffer | undefined;
  #headBytes = 0;
  #message: Buffer | undefined;
  #messageBytes = 0;
  /** The head of a message that waits for room, and all that has come behind it. */
  #held: Buffer[] = [];
  #isRefused = false;

  constructor(admission: MessageAdmission) {
    this.#admission = admission;
  }

  /** Bytes of the message that is arriving; undefined between two messages. */
  get expected(): number | undefined {
    return this.#message?.byteLength;
  }

  /** Bytes of that message that have come. */
  get received(): number {
    return this.#messageBytes;
  }

  /**
   * Returns the messages that are complete now, each with the five bytes before it.
   * @throws Error for a message that is too large, in the words of grpc-js
   */
  write(data: Buffer): Buffer[] {
    if (this.#isRefused) return NONE;
    if (this.#held.length > 0) {
      this.#held.push(data);
      return NONE;
    }
    let messages = NONE;
    for (let at = 0; at < data.byteLength; ) {
      if (this.#message === undefined) {
        at = this.#readHead(data, at);
        if (this.#isRefused || this.#held.length > 0) return messages;
      }
      const message = this.#message as Buffer | undefined;
      if (message === undefined) break;
      const copied = data.copy(message, this.#messageBytes, at);
      at += copied;
      this.#messageBytes += copied;
      if (this.#messageBytes < message.byteLength) break;
      this.#message = undefined;
      this.#admission.arrived();
      if (messages === NONE) messages = [message];
      else messages.push(message);
    }
    return messages;
  }

  /** Whether a message waits for room. */
  get isHeld(): boolean {
    return this.#held.length > 0;
  }

  /** Returns what was held, to be written again. */
  takeHeld(): Buffer {
    const held = Buffer.concat(this.#held);
    this.#held = [];
    return held;
  }

  /** Drops what has come of a message, and all that follows. */
  refuse(): void {
    this.#isRefused = true;
    this.#held = [];
    this.#message = undefined;
    this.#headBytes = 0;
  }

  /** Reads the head of a message, and makes room for it. Returns the position behind the head. */
  #readHead(data: Buffer, from: number): number {
    let head = data;
    let start = from;
    let end = from + HEAD_BYTES;
    if (this.#headBytes > 0 || end > data.byteLength) {
      this.#head ??= Buffer.alloc(HEAD_BYTES);
      const copied = data.copy(this.#head, this.#headBytes, from);
      this.#headBytes += copied;
      end = from + copied;
      if (this.#headBytes < HEAD_BYTES) return end;
      head = this.#head;
      start = 0;
      this.#headBytes = 0;
    }
    const bytes = head.readUInt32BE(start + 1);
    if (bytes > limits.messageBytes) {
      throw new Error(`Received message larger than max (${bytes} vs ${limits.messageBytes})`);
    }
    const admission = this.#admission.begins(bytes, head[start] !== 0);
    if (admission === "refused") this.refuse();
    // The head may have come with the data before.
    else if (admission === "held")
      this.#held = [Buffer.from(head.subarray(start, start + HEAD_BYTES)), data.subarray(end)];
    if (admission !== "taken") return end;
    // Untouched memory costs nothing, so a message that does not come takes none.
    const message = Buffer.allocUnsafe(HEAD_BYTES + bytes);
    head.copy(message, 0, start, start + HEAD_BYTES);
    this.#message = message;
    this.#messageBytes = HEAD_BYTES;
    return end;
  }
}
