import { Worker } from "node:worker_threads";
import { CairnError } from "../../base/errors.js";
import type { FromWorker, TaskReply, ToWorker } from "./messages.js";

// Starts and ends the worker thread, and routes its answers.

/**
 * The build puts the worker's file beside this one. Tests run the sources, which have no such file
 * beside them.
 */
const WORKER_FILE = import.meta.url.endsWith(".ts")
  ? "../../../dist/src/machine/worker/worker_main.js"
  : "./worker_main.js";

/** Receives the answers about one task. */
export interface TaskClient {
  deliver(reply: TaskReply): void;
  /** The thread has ended. */
  abandon(error: Error): void;
}

/**
 * The worker thread. It does not keep the process alive, except while a caller waits for an answer.
 */
export class WorkerThread {
  readonly #worker: Worker;
  readonly #clients = new Map<number, TaskClient>();
  readonly #exited: Promise<void>;
  #lastTask = 0;
  #waiting = 0;
  #isGone = false;
  #hasAnswered = false;

  constructor() {
    let failure: unknown;
    // Without the process's own options, some of which are for its main program only
    // (--input-type).
    this.#worker = new Worker(new URL(WORKER_FILE, import.meta.url), { execArgv: [] });
    this.#worker.unref();
    this.#worker.on("message", ({ task, reply }: FromWorker) => {
      this.#hasAnswered = true;
      this.#clients.get(task)?.deliver(reply);
    });
    this.#worker.on("error", (error) => {
      failure = error;
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.once("exit", (code) => {
        this.#isGone = true;
        for (const client of [...this.#clients.values()]) client.abandon(this.#death(code, failure));
        resolve();
      });
    });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Adds a task, and returns its number. */
  add(client: TaskClient): number {
    this.#clients.set(++this.#lastTask, client);
    return this.#lastTask;
  }

  /** Removes a task that has ended: no answer comes for it. */
  remove(task: number): void {
    this.#clients.delete(task);
  }

  /** Sends a message, and transfers the buffers with it. */
  post(message: ToWorker, buffers: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, buffers);
  }

  /** Waits for a result that only an answer of the thread can bring. */
  async wait<Result>(result: Promise<Result>): Promise<Result> {
    if (this.#waiting++ === 0) this.#worker.ref();
    try {
      return await result;
    } finally {
      if (--this.#waiting === 0) this.#worker.unref();
    }
  }

  /**
   * Returns the error of a thread that has ended. One that never began lacked something that it may
   * find the next time, such as descriptors.
   */
  #death(code: number, cause: unknown): CairnError {
    const reason = cause instanceof Error ? cause.message : `exit code ${code}`;
    const options = cause === undefined ? {} : { cause };
    if (!this.#hasAnswered) {
      const text = `the worker thread of the state could not start: ${reason}; try again`;
      return new CairnError("BUSY", text, options);
    }
    return new CairnError("INTERNAL", `the worker thread of the state has ended: ${reason}; try again`, options);
  }

  /**
   * Ends the thread, which must have no tasks. The thread ends on request and not by force, which
   * LMDB's binding does not expect.
   */
  async stop(): Promise<void> {
    this.post("stop");
    await this.wait(this.#exited);
  }
}
