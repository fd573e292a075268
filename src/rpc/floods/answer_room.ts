import type { Connection } from "./connection.js";
import type { FloodLimits } from "./flood_limits.js";

// Bounds the bytes of answers that wait for callers to read them.

/** Readers among which one is sought when room becomes free; all of them look again soon. */
const SEARCHED = 32;

/** A call whose answers need room. */
export interface AnsweredCall {
  readonly connection: Connection;
  /** Bytes of its answers that the network has not taken. */
  readonly unsent: number;
}

/** A read that waits for room. */
interface WaitingRead {
  readonly call: AnsweredCall;
  readonly resolve: () => void;
}

/** Counts what waits to be sent on all connections, and lets reads wait while that is too much. */
export class AnswerRoom {
  #unsent = 0;
  #waiting: WaitingRead[] = [];
  #waking: NodeJS.Immediate | undefined;

  constructor(private readonly limits: FloodLimits) {}

  get isFull(): boolean {
    return this.#unsent > this.limits.answerBytes;
  }

  get unsent(): number {
    return this.#unsent;
  }

  /** Number of reads that wait. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Returns whether a further answer may be made now. A connection that reads all that it gets has
   * a part of the room that the others do not have. While half is taken, no stream makes an answer
   * before the last one is taken.
   */
  hasRoom(call: AnsweredCall): boolean {
    const { unsent, kind } = call.connection;
    if (kind === "peer") return true;
    const { answerBytes, connectionAnswerBytes } = this.limits;
    if (unsent === 0) return this.#unsent < answerBytes * 1.5;
    if (call.unsent > 0 && this.#unsent > answerBytes / 2) return false;
    return this.#unsent < answerBytes && unsent < connectionAnswerBytes;
  }

  add(connection: Connection, bytes: number): void {
    connection.unsent += bytes;
    this.#unsent += bytes;
  }

  release(connection: Connection, bytes: number): void {
    connection.unsent -= bytes;
    this.#unsent -= bytes;
    this.#wakeSoon();
  }

  /** Waits until there may be room: the caller looks again. */
  wait(call: AnsweredCall): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ call, resolve }));
  }

  /**
   * Wakes a reader in the next turn of the event loop: when many streams are reset together, none
   * of them may take the room of the one before.
   */
  #wakeSoon(): void {
    if (this.#waiting.length > 0) this.#waking ??= setImmediate(() => this.#wake());
  }

  /** Wakes a reader for which there is room, of those that have waited longest. */
  #wake(): void {
    this.#waking = undefined;
    const most = Math.min(this.#waiting.length, SEARCHED);
    for (let at = 0; at < most; at++) {
      const { call, resolve } = this.#waiting[at]!;
      if (!this.hasRoom(call)) continue;
      this.#waiting.splice(at, 1);
      resolve();
      this.#wakeSoon();
      return;
    }
  }

  /** Wakes all readers: those without room wait again, in their order. */
  wakeAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve } of waiting) resolve();
  }
}
