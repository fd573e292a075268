import type { SentError } from "../../base/sent_error.js";
import type { EncodedHeader, SnapshotMeasure } from "../../encoding/snapshot_file.js";
import type { LogPosition } from "../../raft/types.js";
import type { SessionLimits } from "../kv/session_limits.js";

// Messages between the main thread and the worker thread. All messages about one task carry its
// number.
//
//   to capture a state, and to read it      | to restore one
//   ----------------------------------------+----------------------------------------
//   ->  capture                             | ->  restore
//   <-  captured: the position that it has  | ->  block, while there are buffers
//   ->  read                                | <-  taken: the block's buffer
//   <-  piece, while there are buffers      | ->  finish
//   ->  taken: the piece's buffer           | <-  restored
//   <-  end                                 |
//
// The main thread may send release at any time; the worker then closes everything that it has open
// for that number, and sends released as its last message about it. Failed may come in place of any
// other answer. Buffers are transferred, not copied; each number has limits.workerBuffers of them,
// so no more can be on their way.

/** Request of the main thread. */
export type TaskRequest =
  /** Captures the state in the environment at `path`. */
  | { readonly type: "capture"; readonly path: string }
  /** Asks for the captured state's payload or, with a header, for its whole snapshot file. Once. */
  | { readonly type: "read"; readonly header: EncodedHeader | undefined }
  /** Returns the buffer of a piece that was used up: it may be filled again. */
  | { readonly type: "taken"; readonly buffer: ArrayBuffer }
  /** Restores the payload that follows into the environment at `path`, which is new. */
  | { readonly type: "restore"; readonly path: string; readonly at: LogPosition; readonly sessionLimits: SessionLimits }
  /** The next bytes of the payload: the first `bytes` of the buffer. */
  | { readonly type: "block"; readonly buffer: ArrayBuffer; readonly bytes: number }
  /** Ends the payload. */
  | { readonly type: "finish" }
  | { readonly type: "release" };

/** Answer of the worker. */
export type TaskReply =
  | { readonly type: "captured"; readonly at: LogPosition }
  /** Carries the next bytes: the first `bytes` of the buffer. */
  | { readonly type: "piece"; readonly buffer: ArrayBuffer; readonly bytes: number }
  /** Ends the pieces. `measure`: of the snapshot file, if that was read. */
  | { readonly type: "end"; readonly measure: SnapshotMeasure | undefined }
  /** Returns the buffer of a block that is in the environment: it may be filled again. */
  | { readonly type: "taken"; readonly buffer: ArrayBuffer }
  /** The whole payload is in the environment, and the environment is closed. */
  | { readonly type: "restored" }
  | { readonly type: "failed"; readonly error: SentError }
  | { readonly type: "released" };

/** A message to the worker. `stop`: release all tasks, and end. */
export type ToWorker = { readonly task: number; readonly request: TaskRequest } | "stop";

/** A message from the worker. */
export interface FromWorker {
  readonly task: number;
  readonly reply: TaskReply;
}
