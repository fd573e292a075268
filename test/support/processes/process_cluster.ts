import { once } from "node:events";
import { rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { AdminService, type GetStatusResponse } from "../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { MemberRole } from "../../../gen/cairn/v1/storage_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import type { ChannelSettings } from "../../../src/rpc/channel.js";
import { type Client, openChannel, type SharedChannel } from "../../../src/rpc/client.js";
import { type Exit, type RunningNode, startNode } from "./processes.js";

/** How long something may take to come about in a cluster, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 60_000;

/** Ports of the loopback interface that nobody listens on. They are given out by the system, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

/** A node's process, while it runs, and clients of it. */
export interface ClusterProcess {
  readonly id: string;
  readonly address: string;
  readonly data: string;
  readonly node: RunningNode;
  readonly admin: Client<typeof AdminService>;
  readonly kv: Client<typeof KeyValueService>;
}

export interface ClusterSettings {
  /** Further flags of one node. */
  readonly argsOf?: (id: string) => readonly string[];
  /** The program of a node when it is started; default: this repository's. */
  readonly commandOf?: (id: string) => string | undefined;
  /** How the tests' clients connect. */
  readonly channels?: ChannelSettings;
}

/** Nodes of one cluster, each a process of its own. Close it at the end; what is left then is killed after the file's last test. */
export class ProcessCluster {
  readonly running = new Map<string, ClusterProcess>();
  readonly #addresses = new Map<string, string>();
  readonly #channels = new Set<SharedChannel>();

  private constructor(
    private readonly directory: string,
    private readonly args: readonly string[],
    /** Founders of the cluster, for --cluster. */
    readonly founders: string,
    private readonly settings: ClusterSettings,
  ) {}

  /** Starts all of `ids` as voters, which found a cluster; each gets `args` besides what makes it a member. */
  static async start(
    directory: string,
    ids: readonly string[],
    args: readonly string[] = [],
    settings: ClusterSettings = {},
  ): Promise<ProcessCluster> {
    const ports = await freePorts(ids.length);
    const addresses = ids.map((id, at) => [id, `127.0.0.1:${ports[at]}`] as const);
    const founders = addresses.map(([id, address]) => `${id}=${address}`).join(",");
    const cluster = new ProcessCluster(directory, args, founders, settings);
    for (const [id, address] of addresses) cluster.#addresses.set(id, address);
    const started = await Promise.all(ids.map((id) => cluster.startFounder(id)));
    // A node that turns to the cluster does not answer for a moment.
    const [founder, ...others] = started.sort((a, b) => (a.id < b.id ? -1 : 1));
    await Promise.all([founder!.node.event("founded"), ...others.map(({ node }) => node.event("turned"))]);
    return cluster;
  }

  get(id: string): ClusterProcess {
    const found = this.running.get(id);
    if (found === undefined) throw new Error(`${id} does not run`);
    return found;
  }

  /** Starts one of the founders, for the first time or again. */
  startFounder(id: string, args: readonly string[] = []): Promise<ClusterProcess> {
    return this.#start(id, this.#addresses.get(id)!, ["--cluster", this.founders, ...args]);
  }

  /** Starts a node that joins; one that ran before listens where it did. */
  startJoining(id: string, endpoints: readonly string[]): Promise<ClusterProcess> {
    return this.#start(id, this.#addresses.get(id) ?? "127.0.0.1:0", ["--join", endpoints.join(",")]);
  }

  /** Removes the data directory of a node that does not run: its disk is lost. */
  async wipe(id: string): Promise<void> {
    if (this.running.has(id)) throw new Error(`${id} runs`);
    await rm(this.dataOf(id), { recursive: true });
  }

  dataOf(id: string): string {
    return join(this.directory, id);
  }

  /** The members as the leader has them: "n1 VOTER". */
  async roles(): Promise<string[]> {
    const { admin } = await this.leader();
    const { membership } = await admin.getStatus({});
    return membership!.members.map(({ id, role }) => `${id} ${MemberRole[role]}`);
  }

  /** Everything under the keys of this prefix, by a linearizable read. */
  readAll(prefix: string): Promise<Map<string, string>> {
    return this.withLeader(async ({ kv }) => {
      const all = new Map<string, string>();
      for await (const { kvs } of kv.range({ prefix: Buffer.from(prefix) })) {
        for (const { key, value } of kvs) all.set(Buffer.from(key).toString(), Buffer.from(value).toString());
      }
      return all;
    });
  }

  /** Starts a node on the data that it has, with nothing that says whose it is. */
  startAgain(id: string): Promise<ClusterProcess> {
    return this.#start(id, this.#addresses.get(id)!, []);
  }

  async #start(id: string, listen: string, args: readonly string[]): Promise<ClusterProcess> {
    const data = this.dataOf(id);
    const { argsOf, commandOf, channels } = this.settings;
    const command = commandOf?.(id);
    const all = [...this.args, ...(argsOf?.(id) ?? []), ...args];
    const node = await startNode({ id, data, listen, args: all, ...(command && { command }), outlivesTest: true });
    const channel = openChannel(node.address, channels);
    this.#channels.add(channel);
    this.#addresses.set(id, node.address);
    const clients = { admin: channel.client(AdminService), kv: channel.client(KeyValueService) };
    const started = { id, address: node.address, data, node, ...clients };
    this.running.set(id, started);
    return started;
  }

  /** SIGKILL, unless another signal is given; resolves when the process has ended. */
  async kill(id: string, signal?: NodeJS.Signals): Promise<Exit> {
    const { node } = this.get(id);
    this.running.delete(id);
    return node.kill(signal);
  }

  /** Waits until a node leads that a majority of the voters follows. */
  leader(): Promise<ClusterProcess> {
    return this.until(`one of ${[...this.running.keys()].join(", ")} leads`, async () => {
      const statuses = await this.statuses();
      // A node that was removed is told of no leader.
      const knowing = statuses.filter(({ leaderId }) => leaderId !== "");
      if (knowing.length === 0) return undefined;
      const newest = knowing.reduce((best, each) => (each.term > best.term ? each : best));
      const followers = statuses.filter(({ term, leaderId }) => term === newest.term && leaderId === newest.leaderId);
      const voters = newest.membership?.members.length ?? 0;
      return followers.length > voters / 2 ? this.running.get(newest.leaderId) : undefined;
    });
  }

  /** Waits until all that run follow one leader; {@link leader} waits for a majority. */
  async leaderOfAll(): Promise<ClusterProcess> {
    const leader = await this.leader();
    return this.until(`all follow ${leader.id}`, async () => {
      const now = await this.leader();
      const following = (await this.statuses()).filter(({ leaderId }) => leaderId === now.id);
      return following.length === this.running.size ? now : undefined;
    });
  }

  async followers(): Promise<ClusterProcess[]> {
    const { id } = await this.leader();
    return [...this.running.values()].filter((each) => each.id !== id);
  }

  /** What those that run and answer say. */
  async statuses(): Promise<GetStatusResponse[]> {
    const asked = [...this.running.values()].map(({ admin }) => admin.getStatus({}, { timeoutMs: 2_000 }));
    return (await Promise.allSettled(asked)).flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  }

  /** Does something with the leader, with another one when there is a new one: what is repeatable. */
  withLeader<Answer>(work: (leader: ClusterProcess) => Promise<Answer>): Promise<Answer> {
    return this.until("the leader has done it", async () => {
      try {
        return await work(await this.leader());
      } catch (error) {
        // The same write again does no harm, and a deposed leader's may not have happened.
        if (["NOT_LEADER", "UNREACHABLE", "OUTCOME_UNKNOWN", "BUSY"].includes(CairnError.from(error).code))
          return undefined;
        throw error;
      }
    });
  }

  /** Writes all of these, at once. */
  async put(pairs: ReadonlyMap<string, string>): Promise<void> {
    const requests = [...pairs].map(([key, value]) => ({ key: Buffer.from(key), value: Buffer.from(value) }));
    await this.withLeader(({ kv }) => Promise.all(requests.map((request) => kv.put(request, { timeoutMs: 10_000 }))));
  }

  /** Waits until all that run have applied everything that the leader has, and returns the index. */
  async settled(): Promise<bigint> {
    return this.until("all have applied all", async () => {
      const statuses = await this.statuses();
      const last = statuses.reduce((most, { lastLogIndex }) => (lastLogIndex > most ? lastLogIndex : most), 0n);
      const isSettled = statuses.length === this.running.size && statuses.every((each) => each.appliedIndex === last);
      return isSettled ? last : undefined;
    });
  }

  /** Digest of each node's state at one index, which all have settled at. */
  async digests(): Promise<string[]> {
    const index = await this.settled();
    const taken = [...this.running.values()].map(async ({ admin }) => {
      const { snapshot } = await admin.takeSnapshot({ trigger: { case: "index", value: index } });
      return snapshot?.index === index ? Buffer.from(snapshot.sha256).toString("hex") : `at ${snapshot?.index}`;
    });
    return Promise.all(taken);
  }

  /** Waits until `look` finds something. */
  async until<Found>(what: string, look: () => Promise<Found | undefined>): Promise<Found> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      if (performance.now() > deadline) throw await this.#inVain(what);
      await pause(20);
    }
  }

  /** The error of a wait that was in vain, with what there is to know. */
  async #inVain(what: string): Promise<Error> {
    const statuses = (await this.statuses()).map(
      ({ nodeId, term, role, leaderId, commitIndex, appliedIndex, lastLogIndex }) =>
        `${nodeId}: term ${term}, role ${role}, leader ${leaderId}, applied ${appliedIndex}, commit ${commitIndex}, last ${lastLogIndex}`,
    );
    const outputs = [...this.running.values()].map(({ id, node }) => `--- ${id}\n${node.output().slice(-3_000)}`);
    const text = `waited ${PATIENCE_MS} ms in vain until ${what}`;
    return new Error([text, ...statuses, ...outputs].join("\n"));
  }

  async close(): Promise<void> {
    for (const channel of this.#channels) channel.close();
    await Promise.all([...this.running.keys()].map((id) => this.kill(id)));
  }
}
