import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { AdminService, type GetStatusResponse, NodeRole } from "../../../gen/cairn/v1/admin_pb.js";
import { MemberRole } from "../../../gen/cairn/v1/storage_pb.js";
import type { ConnectionOptions } from "../../../src/client/security/connection.js";
import { openChannel, type SharedChannel } from "../../../src/rpc/client.js";
import { clientCredentials } from "../../../src/rpc/security/client_tls.js";
import { type RunningCommand, startCommand, startCommandOnHost } from "../../support/processes/processes.js";

import { TcpProxy } from "../../support/processes/tcp_proxy.js";
import type { TortureCertificates } from "./certificates.js";

/** Preloaded into each process, so that its disk can be made slow. */
const SLOW_SYNCS = new URL("../../support/disk/slow_syncs.mjs", import.meta.url).href;

/** How long a node may take to answer the harness itself, in ms. */
const STATUS_TIMEOUT_MS = 1_000;

export interface ClusterOptions {
  readonly directory: string;
  readonly nodes: number;
  /** For every `cairn start`. */
  readonly args: readonly string[];
  /** The nodes' certificates; without them, nothing is encrypted. */
  readonly certificates?: TortureCertificates | undefined;
  /** How clients connect: the harness itself, as an operator. Default: without encryption. */
  readonly connection?: ConnectionOptions | undefined;
}

/** A process that is a member, or was one. */
export class NodeProcess {
  command: RunningCommand | undefined;
  /** host:port where it really listens. */
  address = "127.0.0.1:1";
  isPaused = false;
  #channel: SharedChannel | undefined;
  /** What earlier lives have logged, as far as it is counted. */
  #counted = { installs: 0, snapshots: 0 };

  constructor(
    readonly id: string,
    readonly data: string,
    /** Where clients reach it: the address in the membership. */
    readonly front: TcpProxy,
    /** How the others reach it: one way each, by the other's id. */
    readonly links: Map<string, TcpProxy>,
    private readonly connection: ConnectionOptions,
  ) {}

  get isRunning(): boolean {
    return this.command !== undefined;
  }

  /** Straight to the process, past all proxies. */
  get channel(): SharedChannel {
    const { tls } = this.connection;
    this.#channel ??= openChannel(this.address, tls && { credentials: clientCredentials(tls) });
    return this.#channel;
  }

  get counts() {
    const log = this.command?.stderr ?? "";
    return {
      installs: this.#counted.installs + occurrences(log, "installed a snapshot"),
      snapshots: this.#counted.snapshots + occurrences(log, "took a snapshot"),
    };
  }

  async started(command: RunningCommand): Promise<void> {
    this.command = command;
    const { address } = (await command.event("listening")) as { address: string };
    this.address = address;
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** SIGKILL unless another signal is given. Whatever it logged stays counted. */
  async end(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const { command } = this;
    if (command === undefined) return;
    if (this.isPaused) this.resume();
    const exit = await command.kill(signal);
    this.#counted = this.counts;
    this.command = undefined;
    this.#channel?.close();
    this.#channel = undefined;
    if (signal === "SIGTERM" && exit.code !== 0) throw new Error(`${this.id} did not stop cleanly:\n${command.stderr}`);
  }

  /** Not in the data directory, which may be lost. */
  get syncDelayFile(): string {
    return `${this.data}.sync-delay`;
  }

  /** From now on each sync of a file takes at least so many milliseconds, also one that is under way; 0: as long as it takes. */
  async delaySyncs(ms: number): Promise<void> {
    if (ms === 0) await rm(this.syncDelayFile, { force: true });
    else await writeFile(this.syncDelayFile, String(ms));
  }

  pause(): void {
    process.kill(this.command!.pid, "SIGSTOP");
    this.isPaused = true;
  }

  resume(): void {
    process.kill(this.command!.pid, "SIGCONT");
    this.isPaused = false;
  }

  /** Undefined when it does not answer. */
  async status(): Promise<GetStatusResponse | undefined> {
    if (!this.isRunning || this.isPaused) return undefined;
    const admin = this.channel.client(AdminService);
    return admin.getStatus({}, { timeoutMs: STATUS_TIMEOUT_MS }).catch(() => undefined);
  }

  async stopProxies(): Promise<void> {
    await this.front.stop();
    for (const link of this.links.values()) await link.stop();
  }
}

/**
 * Real processes that are one cluster. Between any two there is a proxy for each direction, and one before each for the clients, so that links
 * can fail one by one.
 */
export class ProcessCluster {
  readonly nodes: NodeProcess[] = [];
  /** Members it was created with. */
  #bootstrap = "";

  private constructor(private readonly options: ClusterOptions) {}

  /** Resolves when the cluster is founded. */
  static async start(options: ClusterOptions): Promise<ProcessCluster> {
    const cluster = new ProcessCluster(options);
    for (let number = 1; number <= options.nodes; number++) await cluster.add(`n${number}`);
    cluster.#bootstrap = cluster.nodes.map(({ id, front }) => `${id}=${front.address}`).join(",");
    await Promise.all(cluster.nodes.map((node) => cluster.launch(node)));
    const [founder, ...others] = cluster.nodes;
    await Promise.all([founder!.command!.event("founded"), ...others.map(({ command }) => command!.event("turned"))]);
    return cluster;
  }

  get running(): NodeProcess[] {
    return this.nodes.filter((node) => node.isRunning && !node.isPaused);
  }

  /** All links between members. */
  get links(): TcpProxy[] {
    return this.nodes.flatMap((node) => [...node.links.values()]);
  }

  /** How clients connect. */
  get connection(): ConnectionOptions {
    return this.options.connection ?? {};
  }

  get endpoints(): string[] {
    return this.nodes.map(({ front }) => front.address);
  }

  /** The way from one node to another. */
  link(from: NodeProcess, to: NodeProcess): TcpProxy {
    return to.links.get(from.id)!;
  }

  /** Makes room for one more; {@link launch} starts it. */
  async add(id: string): Promise<NodeProcess> {
    const target = () => node.address;
    const node: NodeProcess = new NodeProcess(
      id,
      join(this.options.directory, id),
      await TcpProxy.start(target),
      new Map(),
      this.connection,
    );
    for (const other of this.nodes) {
      node.links.set(other.id, await TcpProxy.start(target));
      other.links.set(id, await TcpProxy.start(() => other.address));
    }
    this.nodes.push(node);
    return node;
  }

  async remove(node: NodeProcess): Promise<void> {
    await node.end();
    this.nodes.splice(this.nodes.indexOf(node), 1);
    await node.stopProxies();
    for (const other of this.nodes) {
      await other.links.get(node.id)?.stop();
      other.links.delete(node.id);
    }
  }

  /**
   * Starts a node's process; those that were started before know the way to a new one by the membership only. A founder is started with the list
   * of all of them, unless it is to `join`, as one is that was removed. `host`: the name of the host that it believes to be on; default: this one's.
   */
  async launch(node: NodeProcess, how: "as usual" | "join" = "as usual", host?: string): Promise<void> {
    const peers = this.nodes
      .filter((other) => other !== node)
      .map((other) => `${other.id}=${this.link(node, other).address}`);
    const where = ["--id", node.id, "--data", node.data, "--listen", "127.0.0.1:0"];
    const members =
      this.#isFounder(node) && how === "as usual"
        ? ["--cluster", this.#bootstrap]
        : ["--join", this.founders.map(({ front }) => front.address).join(",")];
    const tls = (await this.options.certificates?.flagsOf(node.id)) ?? [];
    const settings = ["--json", "--log-level", "info", ...tls, ...this.options.args];
    const args = ["start", ...where, "--advertise", node.front.address, ...members];
    args.push("--peer-addresses", peers.join(","), ...settings);
    const env = { NODE_OPTIONS: `--import ${SLOW_SYNCS}`, CAIRN_TEST_SYNC_DELAY: node.syncDelayFile };
    await node.started(host === undefined ? startCommand(args, { env }) : startCommandOnHost(host, args, { env }));
  }

  get founders(): NodeProcess[] {
    return this.nodes.filter((node) => this.#isFounder(node));
  }

  #isFounder({ id, front }: NodeProcess): boolean {
    return this.#bootstrap.split(",").includes(`${id}=${front.address}`);
  }

  /** Whether all founders vote, each with the directory that it has now: no disk is lost whose place is not taken yet. */
  async isWhole(): Promise<boolean> {
    const leader = await (await this.leader())?.status();
    const members = leader?.membership?.members ?? [];
    const statuses = await Promise.all(this.founders.map((node) => node.status()));
    return statuses.every((status) => {
      const member = members.find(({ id }) => id === status?.nodeId);
      return member?.role === MemberRole.VOTER && Buffer.compare(member.incarnation, status!.incarnation) === 0;
    });
  }

  /** The node that leads the highest term, among those that answer. */
  async leader(): Promise<NodeProcess | undefined> {
    const statuses = await Promise.all(this.nodes.map(async (node) => ({ node, status: await node.status() })));
    let best: { node: NodeProcess; term: bigint } | undefined;
    for (const { node, status } of statuses) {
      if (status?.role !== NodeRole.LEADER) continue;
      if (best === undefined || status.term > best.term) best = { node, term: status.term };
    }
    return best?.node;
  }

  /** All links work again, and all processes run. */
  async heal(): Promise<void> {
    for (const link of [...this.links, ...this.nodes.map(({ front }) => front)]) link.set({});
    for (const node of this.nodes) if (node.isPaused) node.resume();
    await Promise.all(this.nodes.map((node) => node.delaySyncs(0)));
    await Promise.all(this.nodes.filter((node) => !node.isRunning).map((node) => this.launch(node)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.end()));
    await Promise.all(this.nodes.map((node) => node.stopProxies()));
  }
}

function occurrences(text: string, part: string): number {
  return text.split(part).length - 1;
}
