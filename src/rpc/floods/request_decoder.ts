import { limits } from "../../base/limits.js";

// Splits the bytes of a call into gRPC messages, within a budget.

const HEAD_BYTES = 5;
const NONE: Buffer[] = [];

/** Decides about the messages of one call. */
export interface MessageAdmission {
  /** A message of this many bytes begins. Returns false when the call was refused. */
  begins(bytes: number, isCompressed: boolean): boolean;
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
    let messages = NONE;
    for (let at = 0; at < data.byteLength; ) {
      if (this.#message === undefined) {
        at = this.#readHead(data, at);
        if (this.#isRefused) return messages;
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

  /** Drops what has come of a message, and all that follows. */
  refuse(): void {
    this.#isRefused = true;
    this.#message = undefined;
    this.#headBytes = 0;
  }

  /** Reads the head of a message, and makes room for the message. Returns the position behind it. */
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
    if (!this.#admission.begins(bytes, head[start] !== 0)) {
      this.refuse();
      return end;
    }
    // Untouched memory costs nothing, so a message that does not come takes none.
    const message = Buffer.allocUnsafe(HEAD_BYTES + bytes);
    head.copy(message, 0, start, start + HEAD_BYTES);
    this.#message = message;
    this.#messageBytes = HEAD_BYTES;
    return end;
  }
}
