import { Worker } from "node:worker_threads";
import { CairnError } from "../errors.js";
import type { ViewReply, ViewRequest } from "./view_messages.js";

/** The worker's file is beside this one in all that the build makes; beside the sources, which tests run, there is none to run. */
const WORKER_FILE = import.meta.url.endsWith(".ts") ? "../../dist/src/machine/view_worker.js" : "./view_worker.js";

/** A view as the thread's messages know it. */
export interface ViewClient {
  deliver(reply: ViewReply): void;
  /** There is no thread any more. */
  abandon(error: Error): void;
}

/** A worker thread and its views. It does not keep the process alive, unless somebody waits for an answer. */
export class ViewThread {
  readonly #worker: Worker;
  readonly #views = new Map<number, ViewClient>();
  readonly #exited: Promise<void>;
  #lastView = 0;
  #waiting = 0;
  #isGone = false;

  constructor() {
    let failure: unknown;
    // Not with the process's own options, some of which are for its main program only (--input-type).
    this.#worker = new Worker(new URL(WORKER_FILE, import.meta.url), { execArgv: [] });
    this.#worker.unref();
    this.#worker.on("message", (reply: ViewReply) => this.#views.get(reply.view)?.deliver(reply));
    this.#worker.on("error", (error) => {
      failure = error;
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.once("exit", (code) => {
        this.#isGone = true;
        for (const view of [...this.#views.values()]) view.abandon(died(code, failure));
        resolve();
      });
    });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Gives a view its number. */
  add(view: ViewClient): number {
    this.#views.set(++this.#lastView, view);
    return this.#lastView;
  }

  /** The view has ended: no answer comes for it any more. */
  remove(number: number): void {
    this.#views.delete(number);
  }

  /** Sends a request; the buffers go with it. */
  post(request: ViewRequest, transferred: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(request, transferred);
  }

  /** Waits for what only an answer of the thread can bring about. */
  async wait<Result>(result: Promise<Result>): Promise<Result> {
    if (this.#waiting++ === 0) this.#worker.ref();
    try {
      return await result;
    } finally {
      if (--this.#waiting === 0) this.#worker.unref();
    }
  }

  /** Ends the thread when it has no views any more: by itself and not by force, which LMDB's binding does not expect. */
  async stop(): Promise<void> {
    this.post({ type: "stop" });
    await this.wait(this.#exited);
  }
}

function died(code: number, cause: unknown): CairnError {
  const reason = cause instanceof Error ? cause.message : `exit code ${code}`;
  const text = `the thread that reads the state for snapshots has ended: ${reason}; try again`;
  return new CairnError("INTERNAL", text, cause === undefined ? {} : { cause });
}
