import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";

/** A node in a process of its own, which does what it is asked to. `config`: what bench/snapshot_node.mjs is told. */
export async function startNode(config) {
  const child = fork(fileURLToPath(new URL("../snapshot_node.mjs", import.meta.url)), [JSON.stringify(config)]);
  let answered;
  child.on("message", ({ result, error }) => {
    if (error === undefined) answered.resolve(result);
    else answered.reject(new Error(error));
  });
  child.once("exit", (code, signal) => answered.reject(new Error(`the node has ended: ${code ?? signal}`)));
  const answer = () => new Promise((resolve, reject) => (answered = { resolve, reject }));
  const { address } = await answer();
  const ask = (task, fields = {}) => {
    child.send({ task, fields });
    return answer();
  };
  return { pid: child.pid, address, ask, kill: () => child.kill("SIGKILL") };
}

/** Does something while the delays of a node's event loop are watched. */
export async function watched(node, action) {
  await node.ask("watchDelays");
  const result = await action();
  return { result, ...(await node.ask("worstDelay")) };
}
