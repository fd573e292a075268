import { CairnError } from "../base/errors.js";
import type { ChannelSettings } from "./channel.js";
import { openChannel, type SharedChannel } from "./client.js";
import { type MemberCredentials, settingsTo } from "./security/member_credentials.js";

/** Keeps channels by address: each is opened when it is first needed. */
export class ChannelPool {
  readonly #channels = new Map<string, SharedChannel>();
  #closed = false;

  /** @param members makes the credentials of channels to members */
  constructor(
    private readonly settings: ChannelSettings = {},
    private readonly members?: MemberCredentials | undefined,
  ) {}

  /**
   * Returns the channel to an address, and opens it if necessary. Only the member of that name may
   * answer there, if connections between members use TLS.
   * @throws CairnError FAILED_PRECONDITION when the pool is closed, INVALID_ARGUMENT for an invalid
   * address
   */
  get(address: string, member?: string): SharedChannel {
    if (this.#closed) throw new CairnError("FAILED_PRECONDITION", "the channels are closed");
    const key = `${member ?? ""} ${address}`;
    const open = this.#channels.get(key);
    if (open !== undefined) return open;
    const channel = openChannel(address, settingsTo(member, this.settings, this.members));
    this.#channels.set(key, channel);
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
