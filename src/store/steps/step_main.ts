// The worker thread of a store: it carries out one step at a time.

import { setPriority } from "node:os";
import { parentPort } from "node:worker_threads";
import { assert } from "../../base/assert.js";
import { sentError } from "../../base/sent_error.js";
import { nodeFileSystem } from "../../system/fs.js";
import { executeStep } from "./step.js";
import { StepControl } from "./step_control.js";
import type { StepReply, StepRequest } from "./worker_runner.js";

/** On a scale on which the main thread has 0, and 19 is the lowest priority. */
const NICE = 10;

assert(parentPort !== null, "this file is started as a worker thread");
const port = parentPort;

// Only Linux gives each thread its own priority; elsewhere it is the whole process's.
if (process.platform === "linux") setPriority(NICE);

port.on("message", (request: StepRequest) => void carryOut(request));

async function carryOut({ directory, task, control: memory }: StepRequest): Promise<void> {
  const control = new StepControl(memory);
  const world = {
    fs: nodeFileSystem,
    directory,
    pace: (bytes: number) => control.pace(bytes),
    progress: (share: number) => {
      control.progress = share;
    },
  };
  let reply: StepReply;
  try {
    reply = { outcome: await executeStep(world, task) };
  } catch (error) {
    reply = { error: sentError(error) };
  }
  port.postMessage(reply);
}
