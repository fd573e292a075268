import { Worker } from "node:worker_threads";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { receivedError, type SentError } from "../../base/sent_error.js";
import type { MakeRunner, StepRunner } from "./runner.js";
import type { StepOutcome, StepTask } from "./step.js";
import { StepControl } from "./step_control.js";

/** Asks the worker thread for a step. */
export interface StepRequest {
  readonly directory: string;
  readonly task: StepTask;
  /** Memory of the {@link StepControl}. */
  readonly control: SharedArrayBuffer;
}

export type StepReply = { readonly outcome: StepOutcome } | { readonly error: SentError };

/**
 * The build puts the worker's file beside this one. Tests run the sources, which have no such file
 * beside them.
 */
const WORKER_FILE = import.meta.url.endsWith(".ts") ? "../../../dist/src/store/steps/step_main.js" : "./step_main.js";

/** Steps write at most so many times as fast as writers do, unless that is slow. */
const RATE_FACTOR = 6;

/** Carries steps out on a worker thread. The file system is always the real one. */
export const workerRunner: MakeRunner = (_fs, directory) => new WorkerRunner(directory);

/** Runs steps on a thread that starts with the first one, and again after it has died. */
export class WorkerRunner implements StepRunner {
  readonly #control = new StepControl();
  #worker: Worker | undefined;
  #startedMs: number | undefined;

  constructor(
    private readonly directory: string,
    private readonly file: URL = new URL(WORKER_FILE, import.meta.url),
  ) {}

  get progress(): number {
    return this.#control.progress;
  }

  async run(task: StepTask): Promise<StepOutcome> {
    this.#control.progress = 0;
    this.#control.bytesPerSecond = this.#rate(task.manifest.rules.flushBytes);
    const worker = this.#started();
    const reply = await this.#ask(worker, { directory: this.directory, task, control: this.#control.memory });
    if ("error" in reply) throw receivedError(reply.error);
    return reply.outcome;
  }

  hurry(isUrgent: boolean): void {
    this.#control.isUrgent = isUrgent;
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }

  #started(): Worker {
    if (this.#worker === undefined) {
      // Without the process's own options, some of which are for its main program only.
      const worker = new Worker(this.file, { execArgv: [] });
      worker.once("exit", () => {
        if (this.#worker === worker) this.#worker = undefined;
      });
      this.#worker = worker;
    }
    return this.#worker;
  }

  /** The thread keeps the process alive while it has something to do. */
  #ask(worker: Worker, request: StepRequest): Promise<StepReply> {
    return new Promise((resolve, reject) => {
      let failure: unknown;
      const onError = (error: unknown) => {
        failure = error;
      };
      const end = () => {
        worker.off("message", onMessage);
        worker.off("exit", onExit);
        worker.off("error", onError);
        worker.unref();
      };
      const onMessage = (reply: StepReply) => {
        end();
        resolve(reply);
      };
      const onExit = (code: number) => {
        end();
        const reason = failure instanceof Error ? failure.message : `exit code ${code}`;
        reject(new CairnError("INTERNAL", `the thread that writes the state's tables has ended: ${reason}`));
      };
      worker.ref();
      worker.on("message", onMessage);
      worker.once("exit", onExit);
      worker.on("error", onError);
      worker.postMessage(request);
    });
  }

  /** Returns the rate for a step that begins now: a table was filled since the one before began. */
  #rate(flushBytes: number): number {
    const nowMs = performance.now();
    const filledMs = nowMs - (this.#startedMs ?? Number.NEGATIVE_INFINITY);
    this.#startedMs = nowMs;
    const writtenPerSecond = (flushBytes * 1000) / filledMs;
    return Math.max(limits.storeStepRateBytes, RATE_FACTOR * writtenPerSecond);
  }
}
