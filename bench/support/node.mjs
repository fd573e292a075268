import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** A node in a process of its own, which does what it is asked to. `config`: what bench/snapshot_node.mjs is told. */
export function startNode(config) {
  return startProcess("../snapshot_node.mjs", [JSON.stringify(config)]);
}

/** A process beside the nodes that does nothing. */
export function startIdle() {
  return startProcess("idle.mjs", []);
}

/** Starts a program that serves tasks (see tasks.mjs); `file` is relative to this folder, or a URL. */
export async function startProcess(file, args) {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), args);
  let answered;
  child.on("message", ({ result, error }) => {
    if (error === undefined) answered.resolve(result);
    else answered.reject(new Error(error));
  });
  child.once("exit", (code, signal) => answered.reject(new Error(`the process has ended: ${code ?? signal}`)));
  const answer = () => new Promise((resolve, reject) => (answered = { resolve, reject }));
  const { address } = await answer();
  const ask = (task, fields = {}) => {
    child.send({ task, fields });
    return answer();
  };
  return { pid: child.pid, address, ask, kill: () => child.kill("SIGKILL") };
}

/** Does something while the delays of a node's event loop are watched, and those of the idle process. */
export async function watched(node, idle, action) {
  await Promise.all([node.ask("watchDelays"), idle.ask("watchDelays")]);
  const result = await action();
  const [delays, { worstMs: idleWorstMs }] = await Promise.all([node.ask("worstDelay"), idle.ask("worstDelay")]);
  return { result, ...delays, idleWorstMs };
}
