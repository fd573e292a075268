import { assert } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import { Exchange } from "./exchange.js";
import { type RestoreTarget, restoreInWorker } from "./worker_restore.js";
import { WorkerThread } from "./worker_thread.js";
import { WorkerView } from "./worker_view.js";

// Gives each machine its share of the one worker thread.

/**
 * The thread that works for all machines of this process: one is enough, and a start takes ~0.1 s.
 */
let thread: WorkerThread | undefined;

/** Number of machines that may use the thread. */
let machines = 0;

/**
 * The worker thread as one machine uses it. The thread starts when it is first needed, and ends
 * when no machine is left. When it dies, all of its tasks fail with INTERNAL, and the next call
 * starts another.
 */
export class StateWorker {
  readonly #exchanges = new Set<Exchange>();
  #isStopped = false;

  constructor() {
    machines++;
  }

  /**
   * Captures the state in the environment at `path`, as it is at the call or somewhat later. The
   * environment must stay open until `letGo` is called: once, also when the capture fails.
   */
  capture(path: string, letGo: () => void): Promise<WorkerView> {
    const exchange = this.#begin();
    void exchange.ended.then(letGo);
    return failingWith(exchange, WorkerView.capture(path, exchange));
  }

  /**
   * Restores a payload into a new environment; nobody has it open on return. Throws CairnError
   * CORRUPT, DISK_FULL, or the error of the payload or the signal; the environment is then useless.
   */
  async restore(target: RestoreTarget, payload: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const exchange = this.#begin();
    try {
      await failingWith(exchange, restoreInWorker(target, payload, exchange, signal));
    } finally {
      exchange.fail(new CairnError("INTERNAL", "the restore is over"));
      await exchange.settled();
    }
  }

  /**
   * Ends all tasks of this machine; callers that wait for one get `reason`. The worker has closed
   * everything on return. Call it once.
   */
  async stop(reason: Error): Promise<void> {
    assert(!this.#isStopped, "a worker is stopped once");
    this.#isStopped = true;
    for (const exchange of this.#exchanges) exchange.fail(reason);
    await Promise.all([...this.#exchanges].map((exchange) => exchange.settled()));
    machines--;
    if (machines > 0) return;
    const ending = thread;
    thread = undefined;
    await ending?.stop();
  }

  #begin(): Exchange {
    assert(!this.#isStopped, "nothing is begun after the stop");
    if (thread === undefined || thread.isGone) thread = new WorkerThread();
    const exchange = new Exchange(thread);
    this.#exchanges.add(exchange);
    void exchange.ended.then(() => this.#exchanges.delete(exchange));
    return exchange;
  }
}

/** Fails the exchange when the work on this side fails, so that the worker gives up too. */
async function failingWith<Result>(exchange: Exchange, work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    exchange.fail(error as Error);
    throw error;
  }
}
