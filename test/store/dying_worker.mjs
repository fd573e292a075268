// A worker thread that dies in the midst of a step.
import { parentPort } from "node:worker_threads";

parentPort.once("message", () => {
  throw new Error("killed by the test");
});
