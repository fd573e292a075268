import type { TaskReply, TaskRequest } from "./messages.js";

/** Sends an answer to the main thread; the buffers go with it. */
export type Reply = (reply: TaskReply, buffers?: readonly ArrayBuffer[]) => void;

/** Something that the worker has open for the main thread. */
export interface ServedTask {
  /** Carries out a request; what it throws goes to the main thread. */
  handle(request: TaskRequest): void;
  /** Closes all that is open. */
  release(): Promise<void>;
}
