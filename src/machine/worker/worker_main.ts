// The worker thread of LmdbMachine. It makes snapshots of captured states (reads, encodes,
// checksums, hashes) and writes snapshots into new states, so that the main thread only hands over
// full buffers.

import { setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import { assert } from "../../base/assert.js";
import { sentError } from "../../base/sent_error.js";
import type { TaskReply, TaskRequest, ToWorker } from "./messages.js";
import { ServedRestore } from "./served_restore.js";
import type { SendReply, ServedTask } from "./served_task.js";
import { ServedView } from "./served_view.js";

/** On a scale on which the main thread has 0, and 19 is the lowest priority. */
const NICE = 10;

assert(parentPort !== null, "this file is started as a worker thread");
const port = parentPort;
const tasks = new Map<number, ServedTask>();

// A snapshot has time, the main thread has none. Only Linux gives each thread its own priority;
// elsewhere the priority is the whole process's.
if (process.platform === "linux") setPriority(NICE);

// The thread survives an unexpected error: a thread that ends with LMDB open may take the process
// with it. Each task fails, and the main thread then has it released.
process.on("uncaughtException", (error) => {
  for (const task of tasks.keys()) replyTo(task)({ type: "failed", error: sentError(error) });
});

port.on("message", (message: ToWorker) => {
  if (message === "stop") return void stop();
  const { task, request } = message;
  if (request.type === "release") return void release(task);
  try {
    carryOut(task, request);
  } catch (error) {
    replyTo(task)({ type: "failed", error: sentError(error) });
  }
});

function carryOut(task: number, request: TaskRequest): void {
  if (request.type === "capture") tasks.set(task, ServedView.open(request, replyTo(task)));
  else if (request.type === "restore") tasks.set(task, ServedRestore.open(request, replyTo(task)));
  // After a failed opening or a release there is no task: the request is dropped.
  else tasks.get(task)?.handle(request);
}

async function release(task: number): Promise<void> {
  const served = tasks.get(task);
  tasks.delete(task);
  await served?.release();
  replyTo(task)({ type: "released" });
}

/** Releases all tasks. The thread then ends, because nothing is left to do. */
async function stop(): Promise<void> {
  await Promise.all([...tasks.keys()].map(release));
  port.close();
}

function replyTo(task: number): SendReply {
  return (reply: TaskReply, buffers: readonly ArrayBuffer[] = []) => port.postMessage({ task, reply }, buffers);
}
