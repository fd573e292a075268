import type { MachineService } from "../../../gen/cairn/v1/machine_pb.js";
import { limits } from "../../base/limits.js";
import type { CallSettings } from "../../rpc/channel.js";
import type { Client } from "../../rpc/client.js";
import { toIndex } from "../../rpc/message_counters.js";

/**
 * Asks the leader for the index of linearizable reads, in one call at a time. A call serves all
 * reads that came before it began, and never a read that comes later.
 */
export class SharedIndex {
  /** The next call, shared by the reads that came since the last one began. */
  #next: Promise<number> | undefined;
  /** Settles when the call under way ends. */
  #running: Promise<unknown> = Promise.resolve();

  /**
   * `onceLeaderChanges` as in `CallingMember`: ends the call to a leader that hangs when it has a
   * successor.
   */
  constructor(private readonly onceLeaderChanges: (changed: () => void) => () => void) {}

  /**
   * Returns the index.
   * @throws CairnError as the call does; TIMEOUT, CANCELLED when the leader has not answered
   */
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
