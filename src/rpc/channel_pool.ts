import { CairnError } from "../base/errors.js";
import type { ChannelSettings } from "./channel.js";
import { openChannel, type SharedChannel } from "./client.js";

/** Channels by address: each is opened when it is first asked for, and kept. */
export class ChannelPool {
  readonly #channels = new Map<string, SharedChannel>();
  #closed = false;

  constructor(private readonly settings: ChannelSettings = {}) {}

  /**
   * @throws CairnError FAILED_PRECONDITION when the pool is closed, INVALID_ARGUMENT when the
   * address is none
   */
  get(address: string): SharedChannel {
    if (this.#closed) throw new CairnError("FAILED_PRECONDITION", "the channels are closed");
    const open = this.#channels.get(address);
    if (open !== undefined) return open;
    const channel = openChannel(address, this.settings);
    this.#channels.set(address, channel);
    return channel;
  }

  /**
   * Closes all, with the calls that run on them, and opens none any more. May be called more than
   * once.
   */
  close(): void {
    this.#closed = true;
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }
}
