import type { MachineService } from "../../../gen/cairn/v1/machine_pb.js";
import { limits } from "../../base/limits.js";
import type { CallSettings } from "../../rpc/channel.js";
import type { Client } from "../../rpc/client.js";
import { toIndex } from "../../rpc/message_counters.js";

/**
 * Asks the leader for the index of linearizable reads: one call at a time, which serves all reads
 * that were begun before it. A call under way never serves a read that comes later.
 */
export class SharedIndex {
  /** The next call, which the reads share that have come since the last one was begun. */
  #next: Promise<number> | undefined;
  /** Ends with the call under way. */
  #running: Promise<unknown> = Promise.resolve();

  /**
   * `onceLeaderChanges` as in `CallingMember`: a leader that hangs is given up for its successor.
   */
  constructor(private readonly onceLeaderChanges: (changed: () => void) => () => void) {}

  /** @throws CairnError as the call does; TIMEOUT, CANCELLED when the leader has not answered */
  get(leader: Client<typeof MachineService>, metadata: CallSettings["metadata"]): Promise<number> {
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      const call = this.#ask(leader, metadata);
      this.#running = call.catch(() => {});
      return call;
    });
    return this.#next;
  }

  async #ask(leader: Client<typeof MachineService>, metadata: CallSettings["metadata"]): Promise<number> {
    const ended = new AbortController();
    const forget = this.onceLeaderChanges(() => ended.abort());
    try {
      const settings = { metadata, signal: ended.signal, timeoutMs: limits.peerCallMs };
      return toIndex((await leader.readIndex({}, settings)).index, "index");
    } finally {
      forget();
    }
  }
}
