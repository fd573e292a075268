import { receivedError } from "../../base/sent_error.js";
import type { TaskReply, TaskRequest } from "./messages.js";
import type { TaskClient, WorkerThread } from "./worker_thread.js";

/**
 * One task of the worker, as the main thread sees it: requests go out and answers come in, in
 * order, until it fails or is released.
 */
export class Exchange implements TaskClient {
  /** Resolves when the worker has closed everything that it had open for the task. */
  readonly ended: Promise<void>;
  readonly #task: number;
  readonly #failed = new AbortController();
  /** Answers that were not taken yet. */
  readonly #replies: TaskReply[] = [];
  #waiter: { resolve(reply: TaskReply): void; reject(error: Error): void } | undefined;
  #markEnded: () => void = () => {};

  constructor(private readonly thread: WorkerThread) {
    this.ended = new Promise((resolve) => {
      this.#markEnded = resolve;
    });
    this.#task = thread.add(this);
  }

  /** Aborted when the task has failed or was released, with the reason. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /** Whether {@link next} returns without waiting. */
  get hasReply(): boolean {
    return this.#replies.length > 0;
  }

  /** Sends a request, and transfers the buffers with it. Does nothing once the task has failed. */
  post(request: TaskRequest, buffers: readonly ArrayBuffer[] = []): void {
    if (!this.failed.aborted) this.thread.post({ task: this.#task, request }, buffers);
  }

  /** Returns the next answer. Throws the error that the task has failed with. */
  async next(): Promise<TaskReply> {
    this.failed.throwIfAborted();
    return this.#replies.shift() ?? this.thread.wait(this.#arrival());
  }

  /**
   * Ends the task, unless it has ended: a caller that waits for an answer gets the error. The
   * worker closes its resources soon; see {@link ended}.
   */
  fail(error: Error): void {
    if (this.failed.aborted) return;
    this.post({ type: "release" });
    this.#end(error);
  }

  /** Waits until the task has ended; call it when the end is under way. */
  settled(): Promise<void> {
    return this.thread.wait(this.ended);
  }

  /** Called by the thread when an answer arrives. */
  deliver(reply: TaskReply): void {
    if (reply.type === "released") this.#markAsEnded();
    else if (reply.type === "failed") this.fail(receivedError(reply.error));
    else this.#answer(reply);
  }

  /** Called by the thread when it has ended. */
  abandon(error: Error): void {
    this.#end(error);
    this.#markAsEnded();
  }

  #answer(reply: TaskReply): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (waiter !== undefined) waiter.resolve(reply);
    else if (!this.failed.aborted) this.#replies.push(reply);
  }

  #arrival(): Promise<TaskReply> {
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  #end(error: Error): void {
    if (!this.failed.aborted) this.#failed.abort(error);
    this.#replies.length = 0;
    this.#waiter?.reject(error);
    this.#waiter = undefined;
  }

  #markAsEnded(): void {
    this.thread.remove(this.#task);
    this.#markEnded();
  }
}
