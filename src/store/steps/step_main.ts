// The worker thread of a store: it carries out one step at a time.

import { parentPort } from "node:worker_threads";
import { assert } from "../../base/assert.js";
import { sentError } from "../../base/sent_error.js";
import { nodeFileSystem } from "../../system/fs.js";
import { executeStep } from "./step.js";
import { StepControl } from "./step_control.js";
import type { StepReply, StepRequest } from "./worker_runner.js";

assert(parentPort !== null, "this file is started as a worker thread");
const port = parentPort;

// With the priority of the main thread: a lower one starves the steps of a busy machine, and then
// writers wait for them. The rate of writing is what bounds a step.

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
