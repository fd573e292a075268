// The thread that reads captured states for LmdbMachine, so that making, checksumming and hashing a snapshot costs the main thread
// nothing but the handing over of full buffers. It opens the environment that the main thread has open, and only reads.

import { setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import { assert } from "../core/invariants.js";
import { ServedView } from "./served_view.js";
import { sentError, type ViewReply, type ViewRequest } from "./view_messages.js";

/** Where 0 is the main thread's priority and 19 the lowest. */
const NICE = 10;

assert(parentPort !== null, "this file is started as a worker thread");
const port = parentPort;
const views = new Map<number, ServedView>();

// A snapshot has time, the main thread has none. Only on Linux is a priority a thread's own; elsewhere it is the whole process's.
if (process.platform === "linux") setPriority(NICE);

port.on("message", (request: ViewRequest) => {
  switch (request.type) {
    case "capture":
      return capture(request.view, request.path);
    case "read":
      return void views.get(request.view)?.read(request.header);
    case "used":
      return views.get(request.view)?.used(request.buffer);
    case "release":
      return void release(request.view);
    case "stop":
      return void stop();
  }
});

function capture(view: number, path: string): void {
  try {
    const served = ServedView.open(view, path, reply);
    views.set(view, served);
    reply({ type: "captured", view, at: served.at });
  } catch (error) {
    reply({ type: "failed", view, error: sentError(error) });
  }
}

async function release(view: number): Promise<void> {
  const served = views.get(view);
  views.delete(view);
  await served?.release();
  reply({ type: "released", view });
}

/** The thread ends by itself once nothing is left to do. */
async function stop(): Promise<void> {
  await Promise.all([...views.keys()].map(release));
  port.close();
}

function reply(message: ViewReply, transferred: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transferred);
}
