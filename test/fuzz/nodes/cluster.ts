import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { AdminService, type GetStatusResponse } from "../../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../src/base/errors.js";
import { openChannel, type SharedChannel } from "../../../src/rpc/client.js";
import { expectThat, Finding } from "../run/target.js";
import { FuzzedProcess, inProduct, inRepository, type Probe } from "./process.js";

// A cluster of processes that is fuzzed. How a node is started stands here and nowhere else.

/** How long the cluster may take to do something, in milliseconds. A bound, not a pause. */
const PATIENCE_MS = 120_000;

/** Starts a node of the key-value store as its own process. */
export function startNode(options: {
  readonly id: string;
  readonly data: string;
  readonly listen: string;
  readonly args?: readonly string[];
}): FuzzedProcess {
  const { id, data, listen, args = [] } = options;
  const command = inProduct("cli/main.js");
  return new FuzzedProcess(id, [command, "start", "--id", id, "--data", data, "--listen", listen, "--json", ...args]);
}

/** Starts a member with a state machine of its own. */
function startMachineNode(data: string): FuzzedProcess {
  return new FuzzedProcess("m1", [inRepository("test/fuzz/nodes/machine_node.mjs"), inProduct(), data]);
}

export interface FuzzedNode {
  readonly id: string;
  readonly address: string;
  readonly process: FuzzedProcess;
  /** A channel that tells how the node is; the fuzzed calls use their own connections. */
  readonly channel: SharedChannel;
}

/** Three nodes of the key-value store, and one with a machine of its own. */
export class FuzzedCluster {
  #baselines = new Map<string, Probe>();

  private constructor(
    private readonly directory: string,
    /** The voters of the key-value store. */
    readonly nodes: readonly FuzzedNode[],
    /** The ingress process of the last of them. */
    readonly ingress: FuzzedNode,
    readonly machine: FuzzedNode,
  ) {}

  static async start(): Promise<FuzzedCluster> {
    const directory = await mkdtemp(join(tmpdir(), "cairn-fuzz-"));
    const ids = ["n1", "n2", "n3"];
    const ports = await freePorts(ids.length);
    const list = ids.map((id, at) => `${id}=127.0.0.1:${ports[at]}`).join(",");
    // Snapshots and trimmed segments are part of what is fuzzed.
    const args = [
      "--cluster",
      list,
      "--snapshot-entries",
      "3000",
      "--trailing-log-bytes",
      "100000",
      "--segment-bytes",
      "5000000",
    ];
    const processes = ids.map((id, at) =>
      startNode({
        id,
        data: join(directory, id),
        listen: `127.0.0.1:${ports[at]}`,
        args: at === ids.length - 1 ? [...args, ...INGRESS] : args,
      }),
    );
    const machine = startMachineNode(join(directory, "m1"));
    const nodes: FuzzedNode[] = [];
    for (const each of processes) nodes.push(await served(each));
    const ingress = await served(processes.at(-1)!, "ingress");
    const cluster = new FuzzedCluster(directory, nodes, ingress, await served(machine));
    await cluster.progress();
    return cluster;
  }

  /** Waits until a put is acknowledged: the cluster works. */
  async progress(): Promise<void> {
    await this.until("a put is acknowledged", async () => {
      const [{ channel }] = this.nodes as [FuzzedNode];
      await channel
        .client(KeyValueService)
        .put({ key: Buffer.from("progress"), value: NO_BYTES }, { timeoutMs: 5_000 });
      return true;
    });
  }

  /** What all nodes say of themselves. */
  async statuses(): Promise<GetStatusResponse[]> {
    const all: GetStatusResponse[] = [];
    for (const { channel } of this.nodes) {
      await this.until("all nodes tell their status", async () => {
        all.push(await channel.client(AdminService).getStatus({}, { timeoutMs: 5_000 }));
        return true;
      });
    }
    return all;
  }

  /** All places that calls may be sent to. */
  get doors(): readonly FuzzedNode[] {
    return [...this.nodes, this.ingress];
  }

  /** Everything under a prefix, by a linearizable read. */
  async readAll(prefix: string): Promise<Map<string, string>> {
    return this.until("a range is read", async () => {
      const all = new Map<string, string>();
      const { channel } = this.nodes[0]!;
      const parts = channel.client(KeyValueService).range({ prefix: Buffer.from(prefix) }, { timeoutMs: 10_000 });
      for await (const { kvs } of parts) {
        for (const { key, value } of kvs) all.set(Buffer.from(key).toString(), Buffer.from(value).toString());
      }
      return all;
    });
  }

  /** Repeats something until it succeeds; the leader may change meanwhile. */
  async until<Found>(what: string, look: () => Promise<Found | undefined>): Promise<Found> {
    const deadline = performance.now() + PATIENCE_MS;
    let last: unknown;
    while (performance.now() < deadline) {
      this.expectWell();
      try {
        const found = await look();
        if (found !== undefined) return found;
      } catch (error) {
        if (!(error instanceof CairnError)) throw error;
        last = error;
      }
      await pause(50);
    }
    throw new Finding(`the cluster hangs: in ${PATIENCE_MS} ms it never came about that ${what}; ${String(last)}`);
  }

  expectWell(): void {
    for (const { process } of this.all) process.expectWell();
  }

  /** Checks that no node holds much more than at the first call. Connections of the fuzz must be closed. */
  async expectNoLeak(): Promise<void> {
    for (const { process } of this.all) {
      const first = this.#baselines.get(process.name);
      if (first === undefined) {
        this.#baselines.set(process.name, await process.probe());
        continue;
      }
      await expectBounded(process, first);
    }
  }

  get all(): readonly FuzzedNode[] {
    return [...this.nodes, this.machine];
  }

  async close(): Promise<void> {
    for (const { channel } of [...this.all, this.ingress]) channel.close();
    await Promise.all(this.all.map(({ process }) => process.kill()));
    await rm(this.directory, { recursive: true, force: true });
  }
}

/**
 * How much more a node may hold after a collection of garbage than at the beginning. The bounded memories of a node are within it:
 * recent entries, answers that clients may ask for again, effects for watches.
 */
const HEAP_GROWTH_BYTES = 160 * 1024 * 1024;
const DESCRIPTOR_GROWTH = 60;
const RESOURCE_GROWTH = 200;

/** How long a node has to come back to what it held, in milliseconds. */
const SETTLE_MS = 45_000;

async function expectBounded(process: FuzzedProcess, first: Probe): Promise<void> {
  const deadline = performance.now() + SETTLE_MS;
  for (;;) {
    const now = await process.probe();
    const problem = growth(first, now);
    if (problem === undefined) return;
    expectThat(
      performance.now() < deadline,
      () => `${process.name} leaks: ${problem}; ${JSON.stringify({ first, now })}`,
    );
    await pause(500);
  }
}

function growth(first: Probe, now: Probe): string | undefined {
  const heap = now.heapUsed + now.external - first.heapUsed - first.external;
  if (heap > HEAP_GROWTH_BYTES) return `its memory grew by ${Math.round(heap / 2 ** 20)} MiB`;
  const descriptors = now.descriptors - first.descriptors;
  if (descriptors > DESCRIPTOR_GROWTH) return `it has ${descriptors} more open files`;
  for (const [kind, count] of Object.entries(now.resources)) {
    const more = count - (first.resources[kind] ?? 0);
    if (more > RESOURCE_GROWTH) return `it has ${more} more of ${kind}`;
  }
  return undefined;
}

const NO_BYTES = new Uint8Array(0);

/** Its ingress process takes calls of clients, over code of its own. */
const INGRESS = ["--ingress", "1", "--ingress-listen", "127.0.0.1:0"];

async function served(process: FuzzedProcess, event: "listening" | "ingress" = "listening"): Promise<FuzzedNode> {
  const line = await process.line(`{"event":"${event}"`);
  const { address } = JSON.parse(line) as { address: string };
  return { id: process.name, address, process, channel: openChannel(address) };
}

export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}
