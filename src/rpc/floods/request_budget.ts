import { limits } from "../../base/limits.js";

// Bounds the bytes of request messages that a server holds for all its callers together.

/** Part of a budget that one connection has taken. */
export interface BudgetShare {
  bytes: number;
}

/**
 * Counts the bytes of messages that are being received or held. While more than half is taken, no
 * connection gets more than its fair share; the last part is for small messages only.
 */
export class RequestBudget {
  #taken = 0;
  /** Connections that have taken something. */
  #holders = 0;

  constructor(
    private readonly most: number,
    private readonly reserve: number,
  ) {}

  get taken(): number {
    return this.#taken;
  }

  /** Takes room for a message. Returns false, and takes nothing, when there is none. */
  take(share: BudgetShare, bytes: number): boolean {
    if (!this.#hasRoom(share, bytes)) return false;
    if (share.bytes === 0 && bytes > 0) this.#holders++;
    share.bytes += bytes;
    this.#taken += bytes;
    return true;
  }

  release(share: BudgetShare, bytes: number): void {
    if (bytes === 0) return;
    share.bytes -= bytes;
    this.#taken -= bytes;
    if (share.bytes === 0) this.#holders--;
  }

  #hasRoom(share: BudgetShare, bytes: number): boolean {
    // One message of any size always fits.
    if (this.#taken === 0) return true;
    const taken = this.#taken + bytes;
    const open = bytes <= limits.smallRequestBytes ? this.most : this.most - this.reserve;
    if (taken > open) return false;
    return taken <= this.most / 2 || share.bytes === 0 || share.bytes + bytes <= open / (this.#holders + 1);
  }
}
