import { CairnError } from "../base/errors.js";
import type { ChannelSettings } from "./channel.js";
import { openChannel, type SharedChannel } from "./client.js";

/** Keeps channels by address: each is opened when it is first needed. */
export class ChannelPool {
  readonly #channels = new Map<string, SharedChannel>();
  #closed = false;

  constructor(private readonly settings: ChannelSettings = {}) {}

  /**
   * Returns the channel to an address, and opens it if necessary.
   * @throws CairnError FAILED_PRECONDITION when the pool is closed, INVALID_ARGUMENT for an invalid
   * address
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
   * Closes all channels with the calls that run on them; later calls of {@link get} throw. May be
   * called more than once.
   */
  close(): void {
    this.#closed = true;
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }
}
