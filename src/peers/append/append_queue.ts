import { limits } from "../../base/limits.js";
import type { PeerAppend } from "../../raft/messages.js";
import { entryBytes } from "../../raft/types.js";

interface Waiting {
  readonly message: PeerAppend;
  readonly bytes: number;
}

/** Bytes that a message counts for on top of its entries. */
const MESSAGE_OVERHEAD_BYTES = 256;

/** The messages of an AppendEntries stream that wait until the peer reads. */
export class AppendQueue {
  #waiting: Waiting[] = [];
  #bytes = 0;

  /** One message of any size fits. */
  constructor(private readonly maxBytes: number = limits.peerQueueBytes) {}

  get length(): number {
    return this.#waiting.length;
  }

  /** Bytes that wait, as limits count entries. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Takes in a message, and throws away what it makes pointless: whatever an earlier term's leader
   * wanted to say, and heartbeats that would say less than this one. Returns whether there was room
   * for it.
   */
  add(message: PeerAppend): boolean {
    const isHeartbeat = message.entries.length === 0;
    this.#drop(({ term, entries }) => term < message.term || (isHeartbeat && entries.length === 0));
    const bytes = message.entries.reduce((sum, entry) => sum + entryBytes(entry), MESSAGE_OVERHEAD_BYTES);
    if (this.#bytes + bytes > this.maxBytes && this.#waiting.length > 0) return false;
    this.#waiting.push({ message, bytes });
    this.#bytes += bytes;
    return true;
  }

  /** The message that waits for longest. */
  take(): PeerAppend | undefined {
    const first = this.#waiting.shift();
    if (first === undefined) return undefined;
    this.#bytes -= first.bytes;
    return first.message;
  }

  #drop(isPointless: (message: PeerAppend) => boolean): void {
    if (this.#waiting.length === 0) return;
    this.#waiting = this.#waiting.filter(({ message }) => !isPointless(message));
    this.#bytes = this.#waiting.reduce((sum, { bytes }) => sum + bytes, 0);
  }
}
