import type { PeerRequest, Response } from "./messages.js";

/**
 * Holds outgoing messages: those that may leave at once, and those that promise something not yet
 * durable.
 */
export class Outbox {
  #now: (Response | PeerRequest)[] = [];
  #later: (Response | PeerRequest)[] = [];

  now(message: Response | PeerRequest): void {
    this.#now.push(message);
  }

  whenDurable(message: Response | PeerRequest): void {
    this.#later.push(message);
  }

  /** Replaces messages that wait for a Ready. */
  revise(change: (message: Response | PeerRequest) => Response | PeerRequest): void {
    this.#later = this.#later.map(change);
  }

  /** Whether a message waits for a Ready. */
  get isWaiting(): boolean {
    return this.#later.length > 0;
  }

  takeNow(): readonly (Response | PeerRequest)[] {
    if (this.#now.length === 0) return NONE;
    const taken = this.#now;
    this.#now = [];
    return taken;
  }

  takeWaiting(): readonly (Response | PeerRequest)[] {
    if (this.#later.length === 0) return NONE;
    const taken = this.#later;
    this.#later = [];
    return taken;
  }
}

const NONE: readonly (Response | PeerRequest)[] = [];
