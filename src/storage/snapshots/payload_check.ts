import type { LogPosition } from "../../raft/types.js";

/**
 * Checks the payload of one snapshot while it passes, before anything uses the snapshot (T5):
 * checksums say only that the bytes are those that were sent. Its memory must not grow with the
 * payload. It runs between two chunks, on the main thread.
 */
export interface PayloadCheck {
  /**
   * Takes the next bytes, which are lent for the call.
   * @throws CairnError CORRUPT for bytes that the state machine would refuse
   */
  push(piece: Uint8Array): void;
  /**
   * Ends the payload.
   * @throws CairnError CORRUPT when it is not whole
   */
  finish(): void;
}

/** Begins the check of a payload that must hold the state at this position. */
export type PayloadChecker = (at: LogPosition) => PayloadCheck;
