import { setTimeout as pause } from "node:timers/promises";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../base/errors.js";
import { type Client, openChannel, type SharedChannel } from "../../rpc/client.js";
import { ClusterView, type StatusAnswer } from "./cluster_view.js";

/** How long a node may take to say where it stands, in milliseconds. */
const STATUS_TIMEOUT_MS = 2_000;
/** How long to look for a leader. An election takes about as long as a few timeouts. */
const LEADER_PATIENCE_MS = 10_000;
const LEADER_PAUSE_MS = 200;

export type AdminClient = Client<typeof AdminService>;

/** A cluster as its operator reaches it: by the addresses of some of its members. */
export class ClusterAdmin {
  readonly #channels = new Map<string, SharedChannel>();

  constructor(readonly endpoints: readonly string[]) {}

  /** A client of the node at an address. */
  at(address: string): AdminClient {
    const channel = this.#channels.get(address) ?? openChannel(address, { connectTimeoutMs: STATUS_TIMEOUT_MS });
    this.#channels.set(address, channel);
    return channel.client(AdminService);
  }

  /** What the endpoints say now. @throws CairnError UNREACHABLE when none answers */
  async look(): Promise<ClusterView> {
    return new ClusterView(await Promise.all(this.endpoints.map((address) => this.#ask(address))));
  }

  /**
   * A member by its id; without one, the first endpoint that answers.
   * @throws CairnError UNREACHABLE, NOT_FOUND
   */
  async member(id: string | undefined): Promise<{ readonly node: string; readonly admin: AdminClient }> {
    const view = await this.look();
    if (id !== undefined) return { node: id, admin: this.at(view.addressOf(id)) };
    const { address, status } = view.firstOf(this.endpoints);
    return { node: status.nodeId, admin: this.at(address) };
  }

  /**
   * Has the leader do something, wherever it is. Where the cluster has none, or another one by now,
   * looks again for a while.
   * @throws CairnError what the call throws; UNREACHABLE or NOT_LEADER when no leader is found
   */
  async onLeader<Answer>(
    call: (leader: AdminClient, address: string) => Promise<Answer>,
    signal?: AbortSignal,
    patienceMs = LEADER_PATIENCE_MS,
  ): Promise<Answer> {
    const deadline = performance.now() + patienceMs;
    for (;;) {
      try {
        const { leaderAddress } = await this.look();
        return await call(this.at(leaderAddress), leaderAddress);
      } catch (error) {
        const { code } = CairnError.from(error);
        // Neither has done anything.
        const isPassing = code === "NOT_LEADER" || code === "UNREACHABLE";
        if (!isPassing || performance.now() > deadline) throw error;
      }
      await pause(LEADER_PAUSE_MS, undefined, { signal });
    }
  }

  close(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }

  async #ask(address: string): Promise<StatusAnswer> {
    try {
      return { address, status: await this.at(address).getStatus({}, { timeoutMs: STATUS_TIMEOUT_MS }) };
    } catch (error) {
      return { address, error: CairnError.from(error) };
    }
  }
}
