import { AdminService } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { type Client, openChannel, type SharedChannel } from "../../rpc/client.js";
import { toIndex } from "../../rpc/message_counters.js";
import { type MemberCredentials, settingsTo } from "../../rpc/security/member_credentials.js";
import type { ServedNode } from "../served_node.js";

// Gives the comparison of states one interface to local and remote members.

/** Progress of a member. */
export interface AppliedProgress {
  /** Last index that it has applied. */
  readonly applied: number;
  /** Index of its newest snapshot; 0 without one. */
  readonly snapshot: number;
}

/** A member whose state can be compared with the others'. All methods throw CairnError. */
export interface Comparable {
  readonly id: string;
  progress(signal: AbortSignal): Promise<AppliedProgress>;
  /** Waits until the member has applied `index`, for up to `ms`; returns its progress then. */
  appliedWithin(index: number, ms: number, signal: AbortSignal): Promise<AppliedProgress>;
  /**
   * Makes the member take a snapshot at an index. Returns when it has that one, or a newer one.
   * @throws OUT_OF_RANGE when it can have none there
   */
  takeSnapshot(index: number, signal: AbortSignal): Promise<void>;
  /** Returns the digest of the snapshot at an index; undefined when there is none. */
  digestAt(index: number, signal: AbortSignal): Promise<Uint8Array | undefined>;
}

/** The node that received the request. */
export class Here implements Comparable {
  constructor(private readonly node: ServedNode) {}

  get id(): string {
    return this.node.id;
  }

  async progress(): Promise<AppliedProgress> {
    return { applied: this.node.machine.appliedIndex, snapshot: this.node.raft.snapshot?.index ?? 0 };
  }

  async appliedWithin(index: number, ms: number, signal: AbortSignal): Promise<AppliedProgress> {
    const over = AbortSignal.timeout(ms);
    await this.node.waitApplied(index, AbortSignal.any([signal, over])).catch((error: unknown) => {
      if (!over.aborted) throw error;
    });
    return this.progress();
  }

  async takeSnapshot(index: number): Promise<void> {
    await this.node.takeSnapshot({ index });
  }

  async digestAt(index: number): Promise<Uint8Array | undefined> {
    return this.node.snapshots.list().find((info) => info.index === index)?.sha256;
  }
}

/** Another member, reached over its services. */
export class There implements Comparable {
  readonly #channel: SharedChannel;
  readonly #admin: Client<typeof AdminService>;

  constructor(
    readonly id: string,
    readonly address: string,
    private readonly clusterId: string,
    members: MemberCredentials | undefined,
  ) {
    this.#channel = openChannel(address, settingsTo(id, { connectTimeoutMs: limits.peerConnectMs }, members));
    this.#admin = this.#channel.client(AdminService);
  }

  async progress(signal: AbortSignal): Promise<AppliedProgress> {
    const status = await this.#admin.getStatus({}, { signal, timeoutMs: limits.verifyLookMs });
    const { clusterId, nodeId, appliedIndex, snapshotIndex } = status;
    // The address may belong to another node by now.
    if (clusterId !== this.clusterId || nodeId !== this.id) {
      const text = `at ${this.address} there is node ${nodeId} of cluster ${clusterId}, not ${this.id} of ${this.clusterId}`;
      throw new CairnError("WRONG_CLUSTER", text);
    }
    return { applied: toIndex(appliedIndex, "applied_index"), snapshot: toIndex(snapshotIndex, "snapshot_index") };
  }

  async appliedWithin(index: number, ms: number, signal: AbortSignal): Promise<AppliedProgress> {
    try {
      await this.#admin.getLogInfo({ minAppliedIndex: BigInt(index) }, { signal, timeoutMs: ms });
    } catch (error) {
      if (!hasCode(error, "TIMEOUT")) throw error;
    }
    return this.progress(signal);
  }

  /** Takes as long as the state is large, so this waits while the member answers at all. */
  async takeSnapshot(index: number, signal: AbortSignal): Promise<void> {
    const silent = new AbortController();
    const look = setInterval(() => {
      this.progress(signal).catch((error: unknown) => silent.abort(CairnError.from(error)));
    }, limits.verifyIdleMs);
    try {
      const settings = { signal: AbortSignal.any([signal, silent.signal]) };
      await this.#admin.takeSnapshot({ trigger: { case: "index", value: BigInt(index) } }, settings);
    } finally {
      clearInterval(look);
    }
  }

  async digestAt(index: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { snapshots } = await this.#admin.listSnapshots({}, { signal, timeoutMs: limits.verifyIdleMs });
    return snapshots.find((info) => info.index === BigInt(index))?.sha256;
  }

  /** Channel for calls of other services. */
  get channel(): SharedChannel {
    return this.#channel;
  }

  close(): void {
    this.#channel.close();
  }
}
