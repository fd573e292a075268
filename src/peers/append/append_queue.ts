import { limits } from "../../base/limits.js";
import type { PeerAppend } from "../../raft/messages.js";
import { entryBytes } from "../../raft/types.js";

// Bounds the AppendEntries messages that wait for a slow peer.

interface QueuedAppend {
  readonly message: PeerAppend;
  readonly bytes: number;
}

/** Bytes that a message counts for on top of its entries. */
const MESSAGE_OVERHEAD_BYTES = 256;

/** Queues the messages of an AppendEntries stream until the peer reads. */
export class AppendQueue {
  #waiting: QueuedAppend[] = [];
  #bytes = 0;

  /** A single message of any size fits. */
  constructor(private readonly maxBytes: number = limits.peerQueueBytes) {}

  get length(): number {
    return this.#waiting.length;
  }

  /** Bytes in the queue, as limits count entries. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Adds a message, and drops the messages that it makes pointless: those of a leader of an earlier
   * term, and heartbeats that would say less than this one. Returns false when there is no room.
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

  /** Takes the message that has waited longest. */
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
