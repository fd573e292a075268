import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError, hasCode } from "../errors.js";
import type { Client } from "../transport/bridge_client.js";
import type { CallContext } from "../transport/call_context.js";
import type { CallSettings } from "../transport/channel.js";
import { ChannelPool } from "../transport/channel_pool.js";
import type { KeyValueNode } from "./key_value_node.js";
import { addressOf, explained } from "./leader_hint.js";

/** Metadata of a call that a member passes on: who does, and of which cluster. A call that has it is not passed on again. */
const FORWARDED_BY_KEY = "cairn-forwarded-by";
const CLUSTER_KEY = "cairn-cluster";

type Leader = Client<typeof KeyValueService>;

/** The leader that a call is passed on to, and what to say along. */
interface Forward {
  readonly id: string;
  readonly address: string;
  readonly client: Leader;
  readonly settings: CallSettings;
}

/**
 * Passes calls that reach a node which does not lead on to the leader, once, with what is left of their time and their cancellation. A
 * write during which the connection to the leader breaks is of unknown outcome; one that could not be sent at all has not happened.
 */
export class Forwarding {
  readonly #channels = new ChannelPool();
  /** By address: one for each leader that this node has followed. */
  readonly #leaders = new Map<string, Leader>();

  constructor(private readonly node: KeyValueNode) {}

  /** Answers `here`, or else `there`. */
  async once<Here, There>(
    context: CallContext,
    here: () => Promise<Here>,
    there: (leader: Leader, settings: CallSettings) => Promise<There>,
  ): Promise<Here | There> {
    let forward: Forward | undefined;
    try {
      this.#checkCluster(context);
      return await here();
    } catch (error) {
      forward = this.#forwardOf(error, context);
    }
    try {
      return await there(forward.client, forward.settings);
    } catch (error) {
      throw this.#failure(error, forward);
    }
  }

  /** The same for an answer in parts. Nothing of it may come from `here` when this node does not lead. */
  async *stream<Here, There>(
    context: CallContext,
    here: () => AsyncIterable<Here>,
    there: (leader: Leader, settings: CallSettings) => AsyncIterable<There>,
  ): AsyncGenerator<Here | There, void, undefined> {
    let forward: Forward | undefined;
    try {
      this.#checkCluster(context);
      return yield* here();
    } catch (error) {
      forward = this.#forwardOf(error, context);
    }
    try {
      yield* there(forward.client, forward.settings);
    } catch (error) {
      throw this.#failure(error, forward);
    }
  }

  /** Ends the calls under way at the leader. */
  close(): void {
    this.#channels.close();
  }

  /** An address may have come to belong to a member of another cluster since it was written down. */
  #checkCluster({ metadata }: CallContext): void {
    const cluster = metadata.get(CLUSTER_KEY);
    if (cluster === undefined || cluster === this.node.clusterId) return;
    const text = `the call was passed on within cluster ${cluster}, but this node belongs to ${this.node.clusterId}`;
    throw new CairnError("WRONG_CLUSTER", text);
  }

  /** Where a call goes that has failed here; throws the failure when it goes nowhere. */
  #forwardOf(error: unknown, { metadata, deadlineMs, signal }: CallContext): Forward {
    const id = hasCode(error, "NOT_LEADER") ? error.leaderHint : undefined;
    const address = id === this.node.id ? undefined : addressOf(this.node, id);
    const isForwarded = metadata.get(FORWARDED_BY_KEY) !== undefined;
    if (id === undefined || address === undefined || isForwarded) throw explained(error, this.node);
    return {
      id,
      address,
      client: this.#leaderAt(address),
      settings: {
        signal,
        timeoutMs: deadlineMs === undefined ? undefined : Math.max(0, deadlineMs - Date.now()),
        metadata: { [FORWARDED_BY_KEY]: this.node.id, [CLUSTER_KEY]: this.node.clusterId },
      },
    };
  }

  #leaderAt(address: string): Leader {
    const known = this.#leaders.get(address);
    if (known !== undefined) return known;
    const leader = this.#channels.get(address).client(KeyValueService);
    this.#leaders.set(address, leader);
    return leader;
  }

  #failure(error: unknown, { id, address }: Forward): unknown {
    if (!hasCode(error, "UNREACHABLE")) return error;
    const text = `node ${this.node.id} is not the leader, and the leader ${id} did not answer: ${error.text}`;
    return new CairnError("UNREACHABLE", text, { cause: error, leaderHint: id, leaderAddress: address });
  }
}
