import { assert } from "../core/invariants.js";
import { ViewThread } from "./view_thread.js";
import { WorkerView } from "./worker_view.js";

/** The thread that captures and reads for all machines of this process: one is enough, and starting one costs ~0.1 s. */
let thread: ViewThread | undefined;

/** Readers that may capture. */
let readers = 0;

/**
 * Captures the states of one machine in a worker thread, which also reads them. The thread is started with the first capture, and ended
 * with the last reader that is stopped. When it dies, its views fail, and the next capture starts another.
 */
export class ViewReader {
  readonly #views = new Set<WorkerView>();
  #stopped = false;

  constructor() {
    readers++;
  }

  /**
   * Captures the state in the environment at `path`, as it is at the call or somewhat later. The environment must stay open until
   * `letGo` is called: once, also when the capture fails. Throws CairnError INTERNAL when the thread fails.
   */
  async capture(path: string, letGo: () => void): Promise<WorkerView> {
    assert(!this.#stopped, "nothing is captured after the stop");
    if (thread === undefined || thread.isGone) thread = new ViewThread();
    const view = new WorkerView(thread, path);
    this.#views.add(view);
    void view.ended.then(() => {
      this.#views.delete(view);
      letGo();
    });
    await view.captured();
    return view;
  }

  /** Ends all views: who reads one gets `reason`. All environments are let go of on return. Call it once. */
  async stop(reason: Error): Promise<void> {
    assert(!this.#stopped, "a reader is stopped once");
    this.#stopped = true;
    for (const view of this.#views) view.fail(reason);
    await Promise.all([...this.#views].map((view) => view.settled()));
    readers--;
    if (readers > 0) return;
    const ending = thread;
    thread = undefined;
    await ending?.stop();
  }
}
