import type { TaskReply, TaskRequest } from "./messages.js";

/** Sends an answer to the main thread, and transfers the buffers with it. */
export type SendReply = (reply: TaskReply, buffers?: readonly ArrayBuffer[]) => void;

/** A task that the worker has open for the main thread. */
export interface ServedTask {
  /** Carries out a request; the main thread gets the error that it throws. */
  handle(request: TaskRequest): void;
  /** Closes all that is open. */
  release(): Promise<void>;
}
