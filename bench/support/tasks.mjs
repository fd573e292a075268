import { watchDelays, worstDelay } from "./delays.mjs";

/** What a process that is measured can be asked about its event loop. */
export const delayTasks = { watchDelays, worstDelay };

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
