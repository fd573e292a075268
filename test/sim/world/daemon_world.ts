import type { World } from "../../../src/daemon/world.js";
import type { LostData } from "../../../src/raft/state.js";
import type { Introducer } from "../../../src/server/introducer.js";
import type { SimNetwork } from "./network/network.js";
import type { RunningNode, SimNode } from "./node.js";

/** What a machine does for the daemon that lives on it. */
export interface Machinery {
  startNode(onLost: (lost: LostData) => void): Promise<RunningNode>;
  /** Others reach the node from now on. Returns what ends that. */
  serve(node: RunningNode, introducer: Introducer): () => void;
}

/** The world of a daemon in its present life: its machine's disk and clock, and the simulated network. */
export function simWorld(place: SimNode, network: SimNetwork, machinery: Machinery): World<RunningNode> {
  const clock = place.clock.view();
  return {
    fs: place.disk.fs,
    startNode: (onLost) => machinery.startNode(onLost),
    serve: async (node, listen, introducer) => {
      const stop = machinery.serve(node, introducer);
      return { address: listen, stop: async () => stop() };
    },
    ask: (contact, asked) => network.introductions.ask(place, contact, asked),
    join: (leader, joiner) => network.introductions.join(place, leader, joiner),
    pause: (ms, signal) =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve();
        const cancel = clock.after(ms, () => {
          signal.removeEventListener("abort", end);
          resolve();
        });
        const end = () => {
          cancel();
          resolve();
        };
        signal.addEventListener("abort", end, { once: true });
      }),
    now: () => clock.now(),
    close: () => {},
  };
}
