import type { Worker } from "node:worker_threads";

/** Has a worker thread of the state come across an error that nobody has expected, when it gets to what it is told now. */
export function upset(worker: Worker): void {
  worker.postMessage(null);
}

/** What that error says. */
export const UPSET = "Cannot destructure";
