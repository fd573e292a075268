import { InvariantViolation } from "../core/invariants.js";
import type { LogPosition } from "../core/types.js";
import { CairnError, type CairnErrorCode } from "../errors.js";
import type { EncodedHeader, SnapshotMeasure } from "../storage/snapshots/file_encoder.js";

// What the main thread and the worker that reads captured states say to each other:
//
//   main thread                       worker
//   ---------------------------------------------------------------------------------------------
//   capture                     ->    begins a read transaction
//                               <-    captured: the position that it shows
//   read                        ->    starts to send
//                               <-    piece, as long as it has a buffer to fill
//   used: the piece's buffer    ->    goes on
//                               <-    end
//   release, at any time        ->    ends the transaction
//                               <-    released, always the last of a view
//
// Instead of any answer but the last there may come: failed. Buffers change hands and are never copied; the worker has
// limits.viewBuffers of them for each view, so no more can be on their way.

/** What the main thread asks of its worker. `view` is a number that it has chosen for the view. */
export type ViewRequest =
  /** Captures the state in the environment at `path`. */
  | { readonly type: "capture"; readonly view: number; readonly path: string }
  /** Sends the payload, or, with a header, the whole snapshot file. Once. */
  | { readonly type: "read"; readonly view: number; readonly header: EncodedHeader | undefined }
  /** A piece is used up: its buffer may be filled again. */
  | { readonly type: "used"; readonly view: number; readonly buffer: ArrayBuffer }
  | { readonly type: "release"; readonly view: number }
  /** Releases all views, and ends. */
  | { readonly type: "stop" };

/** What the worker answers. */
export type ViewReply =
  | { readonly type: "captured"; readonly view: number; readonly at: LogPosition }
  /** The next bytes: the first `bytes` of the buffer. */
  | { readonly type: "piece"; readonly view: number; readonly buffer: ArrayBuffer; readonly bytes: number }
  /** There is no more. `measure`: of the snapshot file, if that was read. */
  | { readonly type: "end"; readonly view: number; readonly measure: SnapshotMeasure | undefined }
  /** The capture or the reading failed; nothing more of it comes. */
  | { readonly type: "failed"; readonly view: number; readonly error: SentError }
  | { readonly type: "released"; readonly view: number };

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

/** The error again. What must end the node when the main thread comes across it, must do so when the worker does. */
export function receivedError({ code, text }: SentError): Error {
  return code === undefined ? new InvariantViolation(text, { thread: "worker" }) : new CairnError(code, text);
}
