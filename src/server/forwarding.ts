import type { DescService } from "@bufbuild/protobuf";
import { CairnError, hasCode } from "../base/errors.js";
import type { CallContext } from "../rpc/call_context.js";
import type { CallSettings, ChannelSettings } from "../rpc/channel.js";
import { ChannelPool } from "../rpc/channel_pool.js";
import type { Client, SharedChannel } from "../rpc/client.js";
import type { CallerAccess } from "../rpc/security/caller_access.js";
import type { MemberCredentials } from "../rpc/security/member_credentials.js";
import { MEMBER_ITSELF, metadataKeys } from "./access/metadata_keys.js";
import { addressOf, explained } from "./leader_hint.js";
import type { ServedNode } from "./served_node.js";

// Passes calls that reach a follower on to the leader.

/** The node that passes calls on. */
export type ForwardingNode = Pick<ServedNode, "id" | "clusterId" | "raft">;

/** A call that may be passed on. */
export interface ForwardedCall extends Pick<CallContext, "signal" | "metadata" | "deadlineMs"> {
  /** The caller for whom the call is passed on; undefined without an access file. */
  readonly access: Pick<CallerAccess, "kind" | "name"> | undefined;
}

/** Part of a call that an application makes at its own member, rather than over the network. */
export const OWN_CALL: Pick<ForwardedCall, "metadata" | "access"> = {
  metadata: { get: () => undefined },
  access: { kind: "member", name: "the application of a member" },
};

export interface ForwardingOptions {
  /**
   * host:port of members as this node reaches them, by id, if it differs from the address in the
   * membership.
   */
  readonly peerAddresses?: Readonly<Record<string, string>> | undefined;
  readonly channels?: ChannelSettings | undefined;
  /** Credentials of the connections to leaders. */
  readonly members?: MemberCredentials | undefined;
}

/** A leader that calls are passed on to. */
export interface LeaderAt {
  readonly id: string;
  readonly address: string;
  readonly channel: SharedChannel;
}

/** The leader that a call is passed on to, and the settings of that call. */
interface Forward<Service extends DescService> {
  readonly id: string;
  readonly address: string;
  readonly client: Client<Service>;
  readonly settings: CallSettings;
}

/**
 * Passes the calls of one service that reach a follower on to the leader, once, with the rest of
 * their time and with their cancellation. A write has an unknown outcome when the connection to the
 * leader breaks during it; a write that could not be sent has not happened.
 */
export class Forwarding<Service extends DescService> {
  readonly #channels: ChannelPool;
  /** One for each leader that this node has followed. */
  readonly #leaders = new Map<SharedChannel, Client<Service>>();

  constructor(
    private readonly node: ForwardingNode,
    private readonly service: Service,
    private readonly options: ForwardingOptions = {},
  ) {
    this.#channels = new ChannelPool(options.channels, options.members);
  }

  /** Answers with `here`, or else with `there`. */
  async once<Here, There>(
    context: ForwardedCall,
    here: () => Promise<Here>,
    there: (leader: Client<Service>, settings: CallSettings) => Promise<There>,
  ): Promise<Here | There> {
    let forward: Forward<Service> | undefined;
    try {
      this.#checkCluster(context);
      return await here();
    } catch (error) {
      forward = this.#forwardOf(error, context);
    }
    try {
      return await there(forward.client, forward.settings);
    } catch (error) {
      throw this.failure(error, forward);
    }
  }

  /** Answers in parts in the same way. `here` must yield nothing when this node does not lead. */
  async *stream<Here, There>(
    context: ForwardedCall,
    here: () => AsyncIterable<Here>,
    there: (leader: Client<Service>, settings: CallSettings) => AsyncIterable<There>,
  ): AsyncGenerator<Here | There, void, undefined> {
    let forward: Forward<Service> | undefined;
    try {
      this.#checkCluster(context);
      return yield* here();
    } catch (error) {
      forward = this.#forwardOf(error, context);
    }
    try {
      yield* there(forward.client, forward.settings);
    } catch (error) {
      throw this.failure(error, forward);
    }
  }

  /**
   * Returns the leader that this node follows and may pass a call on to; undefined when the call is
   * to be answered here, if only with an error.
   */
  leaderFor({ metadata }: Pick<ForwardedCall, "metadata">): LeaderAt | undefined {
    const { role, leader } = this.node.raft;
    if (role === "leader" || leader === undefined || leader === this.node.id) return undefined;
    if (metadata.get(metadataKeys.forwardedBy) !== undefined) return undefined;
    const address = this.#addressOf(leader);
    return address === undefined ? undefined : { id: leader, address, channel: this.#channels.get(address, leader) };
  }

  /** Returns the error that a client gets for a failure of a call that was passed on. */
  failure(error: unknown, { id, address }: Pick<LeaderAt, "id" | "address">): unknown {
    if (!hasCode(error, "UNREACHABLE")) return error;
    const text = `node ${this.node.id} is not the leader, and the leader ${id} did not answer: ${error.text}`;
    return new CairnError("UNREACHABLE", text, { cause: error, leaderHint: id, leaderAddress: address });
  }

  /** Ends the calls under way at the leader. */
  close(): void {
    this.#channels.close();
  }

  /**
   * Throws when the call comes from another cluster: the address of a leader may have come to
   * belong to a member of this one.
   */
  #checkCluster({ metadata }: ForwardedCall): void {
    const cluster = metadata.get(metadataKeys.cluster);
    if (cluster === undefined || cluster === this.node.clusterId) return;
    const text = `the call was passed on within cluster ${cluster}, but this node belongs to ${this.node.clusterId}`;
    throw new CairnError("WRONG_CLUSTER", text);
  }

  /**
   * Returns the leader to pass a failed call on to; throws the failure when the call is not passed
   * on.
   */
  #forwardOf(error: unknown, { metadata, deadlineMs, signal, access }: ForwardedCall): Forward<Service> {
    const id = hasCode(error, "NOT_LEADER") ? error.leaderHint : undefined;
    const address = id === this.node.id ? undefined : this.#addressOf(id);
    const isForwarded = metadata.get(metadataKeys.forwardedBy) !== undefined;
    if (id === undefined || address === undefined || isForwarded) throw explained(error, this.node);
    return {
      id,
      address,
      client: this.#clientOf(this.#channels.get(address, id)),
      settings: {
        signal,
        timeoutMs: deadlineMs === undefined ? undefined : Math.max(0, deadlineMs - Date.now()),
        metadata: {
          [metadataKeys.forwardedBy]: this.node.id,
          [metadataKeys.cluster]: this.node.clusterId,
          ...(access !== undefined && { [metadataKeys.caller]: nameToVouchFor(access) }),
        },
      },
    };
  }

  #addressOf(id: string | undefined): string | undefined {
    const given = id === undefined ? undefined : this.options.peerAddresses?.[id];
    return given ?? addressOf(this.node, id);
  }

  #clientOf(channel: SharedChannel): Client<Service> {
    const known = this.#leaders.get(channel);
    if (known !== undefined) return known;
    const leader = channel.client(this.service);
    this.#leaders.set(channel, leader);
    return leader;
  }
}

/** Returns the name by which a member tells the leader for whom it passes a call on. */
export function nameToVouchFor({ kind, name }: Pick<CallerAccess, "kind" | "name">): string {
  return kind === "member" ? MEMBER_ITSELF : name;
}
