import { monitorEventLoopDelay } from "node:perf_hooks";

const delays = monitorEventLoopDelay({ resolution: 1 });

/** What a process that is measured can be asked about its event loop. */
export const delayTasks = {
  async watchDelays() {
    delays.reset();
    delays.enable();
  },
  /** Longest delay of the event loop since the last {@link watchDelays}. */
  async worstDelay() {
    // A stall that ends with this message has not been counted before the next timer.
    await new Promise((resolve) => setTimeout(resolve, 5));
    delays.disable();
    return { worstMs: delays.max / 1e6, p99Ms: delays.percentile(99) / 1e6 };
  },
};

/** Does what the parent process asks for, one task at a time. `hello`: what it is told first. */
export function serveTasks(tasks, hello = {}) {
  process.on("message", async ({ task, fields }) => {
    try {
      process.send({ result: (await tasks[task](fields)) ?? {} });
    } catch (error) {
      process.send({ error: error instanceof Error ? error.stack : String(error) });
    }
  });
  // When the benchmark is gone, however it ended.
  process.on("disconnect", () => process.exit());
  process.send({ result: hello });
}
