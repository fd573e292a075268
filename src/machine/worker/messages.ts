import { InvariantViolation } from "../../base/assert.js";
import { CairnError, type CairnErrorCode } from "../../base/errors.js";
import type { EncodedHeader, SnapshotMeasure } from "../../encoding/snapshot_file.js";
import type { LogPosition } from "../../raft/types.js";
import type { SessionLimits } from "../kv/session_limits.js";

// Messages between the main thread and the worker thread. All messages about one task carry its
// number.
//
//   to capture a state, and to read it      | to restore one
//   ----------------------------------------+----------------------------------------
//   ->  capture                             | ->  restore
//   <-  captured: the position that it has  | ->  block, while buffers are there
//   ->  read                                | <-  taken: the block's buffer
//   <-  piece, while buffers are there      | ->  finish
//   ->  taken: the piece's buffer           | <-  restored
//   <-  end                                 |
//
// At any time, the main thread may say release; the worker then closes what it has open for that
// number, and its last word on it is released. Instead of any other answer there may come: failed.
// Buffers are handed over, not copied; there are limits.workerBuffers of them for each number, so
// no more can be on their way.

/** Request of the main thread. */
export type TaskRequest =
  /** Captures the state in the environment at `path`. */
  | { readonly type: "capture"; readonly path: string }
  /** Sends the captured state's payload, or, with a header, its whole snapshot file. Once. */
  | { readonly type: "read"; readonly header: EncodedHeader | undefined }
  /** A piece was used up: its buffer may be filled again. */
  | { readonly type: "taken"; readonly buffer: ArrayBuffer }
  /** Puts the payload that follows into the environment at `path`, which is new. */
  | { readonly type: "restore"; readonly path: string; readonly at: LogPosition; readonly sessionLimits: SessionLimits }
  /** The next bytes of the payload: the first `bytes` of the buffer. */
  | { readonly type: "block"; readonly buffer: ArrayBuffer; readonly bytes: number }
  /** The payload has no more. */
  | { readonly type: "finish" }
  | { readonly type: "release" };

/** Answer of the worker. */
export type TaskReply =
  | { readonly type: "captured"; readonly at: LogPosition }
  /** The next bytes: the first `bytes` of the buffer. */
  | { readonly type: "piece"; readonly buffer: ArrayBuffer; readonly bytes: number }
  /** There is no more. `measure`: of the snapshot file, if that was read. */
  | { readonly type: "end"; readonly measure: SnapshotMeasure | undefined }
  /** A block is in the environment: its buffer may be filled again. */
  | { readonly type: "taken"; readonly buffer: ArrayBuffer }
  /** The whole payload is in the environment, and the environment closed. */
  | { readonly type: "restored" }
  | { readonly type: "failed"; readonly error: SentError }
  | { readonly type: "released" };

/** A message to the worker. `stop`: to release all, and end. */
export type ToWorker = { readonly task: number; readonly request: TaskRequest } | "stop";

/** A message from it. */
export interface FromWorker {
  readonly task: number;
  readonly reply: TaskReply;
}

/** An error on its way from thread to thread, where it would lose its class. */
export interface SentError {
  /** Undefined: a broken invariant. */
  readonly code: CairnErrorCode | undefined;
  readonly text: string;
}

export function sentError(error: unknown): SentError {
  if (error instanceof InvariantViolation) return { code: undefined, text: error.message };
  const { code, text } = CairnError.from(error);
  return { code, text };
}

/**
 * The error again. What must end the node when the main thread comes across it, must do so when the
 * worker does.
 */
export function receivedError({ code, text }: SentError): Error {
  return code === undefined ? new InvariantViolation(text, { thread: "worker" }) : new CairnError(code, text);
}
