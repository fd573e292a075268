import { grpcTransport } from "../../../src/peers/grpc_transport.js";
import type { Membership } from "../../../src/raft/types.js";
import { until } from "../conditions.js";
import { InstallTap } from "../snapshots/install_tap.js";
import { type MemoryHome, memoryHome, type NodeSettings } from "./nodes.js";
import { serveNode } from "./served_node.js";

export type ServedMember = Awaited<ReturnType<typeof serveNode>> &
  Pick<Cluster, "home"> & { readonly id: string } & {
    readonly node: Awaited<ReturnType<MemoryHome["start"]>>;
  };

/** Nodes in this process that reach each other over gRPC, each with its own ports. Elections are quick. */
export class Cluster {
  readonly home = memoryHome();
  readonly members = new Map<string, ServedMember>();
  /** On all snapshots that are sent. */
  readonly tap = new InstallTap();
  /** Where each is really: a name and no address is what the membership has. */
  readonly #addresses: Record<string, string> = {};

  private constructor(private readonly bootstrap: Membership) {}

  /** All of `ids` vote; they are started, and one of them leads. */
  static async of(ids: readonly string[], settings: NodeSettings = {}): Promise<Cluster> {
    const cluster = new Cluster(ids.map((id) => ({ id, address: `${id}:1`, role: "voter" })));
    for (const id of ids) await cluster.start(id, settings);
    await cluster.leader();
    return cluster;
  }

  /** Starts a node; one that is none of those that the cluster was created with waits to be added. */
  async start(id: string, settings: NodeSettings = {}): Promise<ServedMember> {
    const node = await this.home.start({
      id,
      members: this.bootstrap,
      elections: "automatic",
      tickMs: 20,
      transport: this.tap.on(grpcTransport({ addressOf: ({ id }) => this.#addresses[id] })),
      ...settings,
    });
    const member = { id, home: this.home, node, ...(await serveNode(node, undefined, this.#addresses)) };
    this.#addresses[id] = member.server.address;
    this.members.set(id, member);
    return member;
  }

  get(id: string): ServedMember {
    return this.members.get(id)!;
  }

  /** Waits until one leads, and all that run know it. */
  async leader(): Promise<ServedMember> {
    const found = () => [...this.members.values()].find(({ node }) => node.raft.isEstablishedLeader);
    await until(() => {
      const id = found()?.id;
      return id !== undefined && [...this.members.values()].every(({ node }) => node.raft.leader === id);
    }, "one leads");
    return found()!;
  }

  /** One of those that follow. */
  async follower(): Promise<ServedMember> {
    const { id } = await this.leader();
    return [...this.members.values()].find((member) => member.id !== id)!;
  }

  /** Stops a node as if its process had been killed. */
  async crash(id: string): Promise<void> {
    const { server, node } = this.get(id);
    this.members.delete(id);
    server.kill();
    await this.home.crash(node);
  }
}
