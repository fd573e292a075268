import { setTimeout as pause } from "node:timers/promises";
import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../base/errors.js";
import { ChannelPool } from "../../rpc/channel_pool.js";
import type { Client } from "../../rpc/client.js";
import { type ConnectionOptions, protectedSettings } from "../security/connection.js";
import { ClusterView, type StatusAnswer } from "./cluster_view.js";

/** Time limit for a node's status, in milliseconds. */
const STATUS_TIMEOUT_MS = 2_000;
/** Time limit for finding a leader, in milliseconds. An election takes a few election timeouts. */
const LEADER_PATIENCE_MS = 10_000;
const LEADER_PAUSE_MS = 200;

export type AdminClient = Client<typeof AdminService>;

export interface ClusterAdminOptions extends ConnectionOptions {
  /**
   * Nobody named the endpoints. Then nodes of two clusters among them are an error, so that no
   * command reaches a cluster that it was not meant for.
   */
  readonly areGuessed?: boolean | undefined;
}

/** Gives an operator access to a cluster through the addresses of some of its members. */
export class ClusterAdmin {
  readonly #channels: ChannelPool;

  /** @throws CairnError as {@link protectedSettings} does */
  constructor(
    readonly endpoints: readonly string[],
    private readonly options: ClusterAdminOptions = {},
  ) {
    const connection = protectedSettings(options, endpoints);
    this.#channels = new ChannelPool({ ...connection, connectTimeoutMs: STATUS_TIMEOUT_MS });
  }

  /** Returns a client of the node at an address. */
  at(address: string): AdminClient {
    return this.#channels.get(address).client(AdminService);
  }

  /**
   * Asks all endpoints for their status.
   * @throws CairnError UNREACHABLE, UNAUTHENTICATED or PERMISSION_DENIED when none answers;
   * WRONG_CLUSTER when guessed ones are of two clusters
   */
  async look(): Promise<ClusterView> {
    const view = new ClusterView(await Promise.all(this.endpoints.map((address) => this.#ask(address))));
    if (this.options.areGuessed) view.expectOneCluster();
    return view;
  }

  /**
   * Returns the member with this id; without an id, the first endpoint that answers.
   * @throws CairnError UNREACHABLE, NOT_FOUND
   */
  async member(id: string | undefined): Promise<{ readonly node: string; readonly admin: AdminClient }> {
    const view = await this.look();
    if (id !== undefined) return { node: id, admin: this.at(view.addressOf(id)) };
    const { address, status } = view.firstOf(this.endpoints);
    return { node: status.nodeId, admin: this.at(address) };
  }

  /**
   * Makes a call to the leader. When the cluster has no leader, or leadership has moved, looks for
   * the leader again, for up to `patienceMs`.
   * @throws CairnError the call's own error; UNREACHABLE or NOT_LEADER when no leader is found
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
        // Both errors mean that the call had no effect, so it is safe to repeat.
        const isPassing = code === "NOT_LEADER" || code === "UNREACHABLE";
        if (!isPassing || performance.now() > deadline) throw error;
      }
      await pause(LEADER_PAUSE_MS, undefined, { signal });
    }
  }

  close(): void {
    this.#channels.close();
  }

  async #ask(address: string): Promise<StatusAnswer> {
    try {
      return { address, status: await this.at(address).getStatus({}, { timeoutMs: STATUS_TIMEOUT_MS }) };
    } catch (error) {
      return { address, error: CairnError.from(error) };
    }
  }
}
