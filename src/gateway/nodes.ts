import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import type { Logger } from "../node/logger.js";
import { CairnNode } from "../node/node.js";
import type { KeyValueNode } from "../server/key_value_node.js";
import { openKeyValueMachine } from "../server/open_machine.js";
import { CairnServer } from "../server/server.js";
import { type Client, openChannel, type SharedChannel } from "../transport/bridge_client.js";
import { GatewayError, gatewayCodes } from "./errors.js";

/** A node as the gateway uses it: over gRPC only, but for starting and stopping it. */
export interface GatewayNode {
  readonly id: string;
  readonly raft: Client<typeof RaftService>;
  readonly kv: Client<typeof KeyValueService>;
  readonly admin: Client<typeof AdminService>;
  /** Lets go of it; stops it if the gateway started it. */
  close(): Promise<void>;
}

/** Where the gateway's nodes come from. */
export interface NodeSource {
  /** Names that `init` may use; undefined: any. */
  readonly names: readonly string[] | undefined;
  /** Starts or connects the nodes of a cluster. */
  open(ids: readonly string[]): Promise<GatewayNode[]>;
  /** Stops a node without warning, and starts it from its disk. */
  restart(node: GatewayNode): Promise<GatewayNode>;
  /** After the nodes are closed. */
  close(): Promise<void>;
}

/** Nodes that run already, by name. */
export class RunningNodes implements NodeSource {
  constructor(private readonly addresses: ReadonlyMap<string, string>) {}

  get names(): string[] {
    return [...this.addresses.keys()];
  }

  async open(ids: readonly string[]): Promise<GatewayNode[]> {
    return ids.map((id) => {
      const channel = openChannel(this.addresses.get(id)!);
      return { id, ...clientsOf(channel), close: async () => channel.close() };
    });
  }

  async restart(): Promise<never> {
    throw new GatewayError(
      gatewayCodes.notSupported,
      "restart is not supported with --nodes: the nodes belong to somebody else. Restart them where they were started.",
    );
  }

  async close(): Promise<void> {}
}

/** Nodes that the gateway runs itself, in this process, each with a port and a data directory of its own. */
export class OwnNodes implements NodeSource {
  readonly names = undefined;
  readonly #running = new Map<string, { node: KeyValueNode; server: CairnServer }>();
  #members: readonly string[] = [];
  #temporary: string | undefined;

  constructor(
    private readonly options: {
      /** Kept at the end; undefined: a temporary directory, which is removed. */
      readonly dataDir: string | undefined;
      readonly logger: Logger;
      readonly onFatal: (error: unknown) => void;
    },
  ) {}

  async open(ids: readonly string[]): Promise<GatewayNode[]> {
    this.#members = ids;
    const opened = await Promise.allSettled(ids.map((id) => this.#start(id, true)));
    const failed = opened.find((result) => result.status === "rejected");
    const nodes = opened.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
    if (failed === undefined) return nodes;
    for (const node of nodes) await node.close();
    throw failed.reason;
  }

  async restart({ id }: GatewayNode): Promise<GatewayNode> {
    const running = this.#running.get(id)!;
    running.server.kill();
    await running.node.crash();
    // The hardest crash there is: what the disk had not promised to keep is not relied upon.
    return this.#start(id, false);
  }

  async close(): Promise<void> {
    if (this.#temporary !== undefined) await rm(this.#temporary, { recursive: true, force: true });
  }

  async #start(id: string, trustState: boolean): Promise<GatewayNode> {
    const { logger, onFatal } = this.options;
    const node: KeyValueNode = await CairnNode.start({
      id,
      directory: join(await this.#directory(), id),
      openMachine: openKeyValueMachine,
      clusterId: "gateway",
      members: this.#members.toSorted().map((member) => ({ id: member, address: "", role: "voter" })),
      elections: "manual",
      trailingLogBytes: 0,
      trustState,
      logger,
      onFatal,
    });
    const server = await CairnServer.start(node, { listen: "127.0.0.1:0", logger });
    logger.info({ node: id, address: server.address }, "node listens");
    this.#running.set(id, { node, server });
    const channel = openChannel(server.address);
    const close = async () => {
      channel.close();
      await server.stop();
      await node.stop();
    };
    return { id, ...clientsOf(channel), close };
  }

  async #directory(): Promise<string> {
    if (this.options.dataDir !== undefined) return resolve(this.options.dataDir);
    this.#temporary ??= await mkdtemp(join(tmpdir(), "cairn-gateway-"));
    return this.#temporary;
  }
}

function clientsOf(channel: SharedChannel): Pick<GatewayNode, "raft" | "kv" | "admin"> {
  return {
    raft: channel.client(RaftService),
    kv: channel.client(KeyValueService),
    admin: channel.client(AdminService),
  };
}
