import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { AdminService, ElectionMode } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../base/errors.js";
import { type ConnectionOptions, protectedSettings } from "../client/security/connection.js";
import { CairnNode } from "../node/node.js";
import { grpcTransport } from "../peers/grpc_transport.js";
import type { ChannelSettings } from "../rpc/channel.js";
import { type Client, openChannel, type SharedChannel } from "../rpc/client.js";
import type { KeyValueNode } from "../server/kv/key_value_node.js";
import { openKeyValueMachine } from "../server/kv/open_machine.js";
import { CairnServer } from "../server/server.js";
import type { Logger } from "../system/logger.js";
import { GatewayError, gatewayCodes } from "./errors.js";

/** A node as the gateway uses it: over gRPC only, except to start and stop it. */
export interface GatewayNode {
  readonly id: string;
  /** host:port */
  readonly address: string;
  /** Settings of further channels to it. */
  readonly channelSettings?: ChannelSettings | undefined;
  readonly kv: Client<typeof KeyValueService>;
  readonly admin: Client<typeof AdminService>;
}

/** Supplies the gateway's nodes. */
export interface NodeSource {
  /** Names that `init` may use; undefined: any. */
  readonly names: readonly string[] | undefined;
  /** The open nodes were made for this gateway, so no client has used them before. */
  readonly areNew: boolean;
  /** Starts or connects the nodes of a cluster: all of them, or none. */
  open(ids: readonly string[]): Promise<GatewayNode[]>;
  /** Stops a node without warning, and starts it from its disk. */
  restart(node: GatewayNode): Promise<GatewayNode>;
  /**
   * Releases all nodes, and stops those that it started, including those whose start is not
   * complete. May be called more than once.
   */
  close(): Promise<void>;
}

/** Connects to nodes that run already, by name. */
export class RunningNodes implements NodeSource {
  readonly areNew = false;
  readonly #channels: SharedChannel[] = [];
  readonly #settings: ChannelSettings;

  /** @throws CairnError as {@link protectedSettings} does */
  constructor(
    private readonly addresses: ReadonlyMap<string, string>,
    private readonly options: {
      readonly timeoutMs: number;
      readonly connection?: ConnectionOptions | undefined;
      readonly logger: Logger;
    },
  ) {
    this.#settings = protectedSettings(options.connection ?? {}, [...addresses.values()]);
  }

  get names(): string[] {
    return [...this.addresses.keys()];
  }

  open(ids: readonly string[]): Promise<GatewayNode[]> {
    return Promise.all(ids.map((id) => this.#connect(id, this.addresses.get(id)!)));
  }

  async #connect(id: string, address: string): Promise<GatewayNode> {
    const channel = openChannel(address, this.#settings);
    this.#channels.push(channel);
    const node = { id, channelSettings: this.#settings, ...clientsOf(channel) };
    const { nodeId, electionMode } = await node.admin.getStatus({}, { timeoutMs: this.options.timeoutMs });
    if (nodeId !== id) {
      const text = `--nodes says that ${id} is at ${address}, but the node there is ${nodeId}`;
      throw new GatewayError(gatewayCodes.nodeNotFound, text);
    }
    if (electionMode !== ElectionMode.MANUAL) {
      const advice = "its log is its own: to drive it, start it with --elections manual";
      this.options.logger.warn({ node: id, address }, `the node holds elections by itself, and ${advice}`);
    }
    return node;
  }

  async restart(): Promise<never> {
    throw new GatewayError(
      gatewayCodes.notSupported,
      "restart is not supported with --nodes: the nodes belong to somebody else. Restart them where they were started.",
    );
  }

  async close(): Promise<void> {
    for (const channel of this.#channels) channel.close();
  }
}

/** The parts of a node that runs in this process. */
interface OwnNode {
  readonly node: KeyValueNode;
  readonly server: CairnServer;
  readonly channel: SharedChannel;
}

/** Runs nodes in this process, each with its own port and data directory. */
export class OwnNodes implements NodeSource {
  readonly names = undefined;
  readonly #running = new Map<string, OwnNode>();
  #members: readonly string[] = [];
  /** The directory that holds the nodes' data directories. */
  #directory: string | undefined;
  #isTemporary = false;
  #areNew = false;
  /**
   * The current operation. Operations run one at a time, so that a close() during a start leaves
   * nothing behind.
   */
  #underWay: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(
    private readonly options: {
      /** Kept at the end; undefined: a temporary directory, which is removed. */
      readonly dataDir: string | undefined;
      /** Size of a log segment in bytes; undefined: the node's default. */
      readonly segmentBytes?: number | undefined;
      readonly logger: Logger;
      readonly onFatal: (error: unknown) => void;
    },
  ) {}

  async open(ids: readonly string[]): Promise<GatewayNode[]> {
    ids.forEach(checkFolderName);
    this.#members = ids;
    return this.#inTurn(async () => {
      try {
        await this.#chooseDirectory();
        this.#areNew = !ids.some((id) => existsSync(join(this.#directory!, id)));
        return await this.#startAll(ids);
      } catch (error) {
        if (error instanceof CairnError) throw error;
        const text = `the nodes cannot be started: ${error instanceof Error ? error.message : String(error)}`;
        throw new GatewayError(gatewayCodes.temporarilyUnavailable, text);
      }
    });
  }

  get areNew(): boolean {
    return this.#areNew;
  }

  restart({ id }: GatewayNode): Promise<GatewayNode> {
    return this.#inTurn(async () => {
      const running = this.#running.get(id);
      this.#running.delete(id);
      running?.server.kill();
      running?.channel.close();
      await running?.node.crash();
      // Simulates the hardest crash: the node must not rely on state whose durability the disk had
      // not confirmed.
      return this.#start(id, false);
    });
  }

  close(): Promise<void> {
    this.#closed = true;
    const closed = this.#underWay.then(async () => {
      await this.#stopAll();
      if (this.#isTemporary) await rm(this.#directory!, { recursive: true, force: true });
    });
    this.#underWay = closed.catch(() => {});
    return closed;
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#closed) throw new CairnError("STOPPED", "the gateway is stopping");
    const turn = this.#underWay.then(work);
    this.#underWay = turn.catch(() => {});
    return turn;
  }

  /** Starts all nodes or none. */
  async #startAll(ids: readonly string[]): Promise<GatewayNode[]> {
    const started = await Promise.allSettled(ids.map((id) => this.#start(id, true)));
    const nodes = started.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    if (nodes.length === ids.length) return nodes;
    await this.#stopAll();
    throw started.find((result) => result.status === "rejected")?.reason;
  }

  async #start(id: string, trustState: boolean): Promise<GatewayNode> {
    const { segmentBytes, logger, onFatal } = this.options;
    const node: KeyValueNode = await CairnNode.start({
      id,
      directory: join(this.#directory!, id),
      openMachine: openKeyValueMachine,
      clusterId: "gateway",
      members: this.#members.toSorted().map((member) => ({ id: member, address: "", role: "voter" })),
      elections: "manual",
      segmentBytes,
      trailingLogBytes: 0,
      // Only requests take snapshots, because the log positions that they report depend on it.
      snapshots: false,
      // A node's port changes with every start, so the membership cannot hold its address.
      transport: grpcTransport({ addressOf: (peer) => this.#running.get(peer.id)?.server.address }),
      trustState,
      logger,
      onFatal,
    });
    try {
      // No client needs discovery on these ports, and the services for it take long to load.
      const server = await CairnServer.start(node, { listen: "127.0.0.1:0", discoverable: false, logger });
      logger.info({ node: id, address: server.address }, "node listens");
      const channel = openChannel(server.address);
      this.#running.set(id, { node, server, channel });
      return { id, ...clientsOf(channel) };
    } catch (error) {
      await node.stop();
      throw error;
    }
  }

  async #stopAll(): Promise<void> {
    const all = [...this.#running.values()];
    this.#running.clear();
    await Promise.all(
      all.map(async ({ channel, server, node }) => {
        channel.close();
        await server.stop();
        await node.stop();
      }),
    );
  }

  async #chooseDirectory(): Promise<void> {
    if (this.#directory !== undefined) return;
    const { dataDir } = this.options;
    this.#directory = dataDir === undefined ? await mkdtemp(join(tmpdir(), "cairn-gateway-")) : resolve(dataDir);
    this.#isTemporary = dataDir === undefined;
  }
}

/**
 * Checks a node id as the name of a folder below the data directory. The node itself checks the
 * rest.
 */
function checkFolderName(id: string): void {
  if (id !== "." && id !== "..") return;
  throw new GatewayError(
    gatewayCodes.malformedRequest,
    `field node_ids has ${JSON.stringify(id)}, which names no folder`,
  );
}

function clientsOf(channel: SharedChannel): Pick<GatewayNode, "address" | "kv" | "admin"> {
  return {
    address: channel.address,
    kv: channel.client(KeyValueService),
    admin: channel.client(AdminService),
  };
}
