import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { AdminService, type SnapshotInfo } from "../../../gen/cairn/v1/admin_pb.js";
import { CairnClient } from "../../../src/client/client.js";
import { type NodeProcess, ProcessCluster } from "../torture/cluster.js";

/** Writes that are under way at a time. */
const PIPELINED = 128;

/** How long nothing may get better until it counts as stuck, in ms. Not a limit on the whole: that depends on the size. */
const STUCK_MS = 60_000;

/** What happens to the transfer that brings the follower back. */
export type Disturbance = "none" | "link cut three times" | "follower killed" | "leader killed";

export interface RejoinOptions {
  /** Keys that are written while the follower is down. */
  readonly keys: number;
  readonly valueBytes: number;
  readonly disturbance: Disturbance;
  /** The way to the follower takes at most so many bytes a second, so that a small transfer lasts long enough to be disturbed. */
  readonly bytesPerSecond?: number | undefined;
  /** For every `cairn start`. */
  readonly args: readonly string[];
  readonly progress?: ((line: string) => void) | undefined;
}

export interface RejoinReport {
  /** Size of the snapshot that the follower ended with. */
  readonly snapshotBytes: number;
  /** Bytes that all others have sent to the follower from its start until it was in sync. */
  readonly sentBytes: number;
  readonly writeMs: number;
  /** From the start of the follower's process until it had applied what the others had. */
  readonly inSyncMs: number;
  readonly installs: number;
  /** How often the transfer was disturbed. */
  readonly disturbed: number;
  /** Lines of the follower's log that report an error. */
  readonly errors: readonly string[];
}

/**
 * A follower of three is killed, much is written and trimmed, the follower starts again: it must come back by a snapshot, whatever
 * happens to its transfer.
 * @throws Error when it does not, or when its state is not that of the others
 */
export async function rejoin(options: RejoinOptions): Promise<RejoinReport> {
  const directory = await mkdtemp(join(tmpdir(), "cairn-rejoin-"));
  const cluster = await ProcessCluster.start({ directory, nodes: 3, args: options.args });
  try {
    return await new Rejoin(cluster, options).run();
  } finally {
    await cluster.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

class Rejoin {
  #disturbed = 0;

  constructor(
    private readonly cluster: ProcessCluster,
    private readonly options: RejoinOptions,
  ) {}

  async run(): Promise<RejoinReport> {
    const { cluster, options } = this;
    const follower = cluster.nodes.at(-1)!;
    await this.#moveLeadershipFrom(follower);
    await follower.end();
    const writeMs = await this.#write();
    this.#say(`${options.keys} keys written in ${writeMs} ms while ${follower.id} was down`);
    // Those that may send the snapshot have the same one: what one of them has begun to send, another can go on with.
    await this.#takeSnapshots(await this.#inSync(cluster.running));
    for (const link of follower.links.values()) link.set(this.#linkOf());
    const sentBefore = this.#sentTo(follower);
    const started = performance.now();
    await cluster.launch(follower);
    await this.#disturb(follower);
    const index = await this.#inSync(cluster.nodes);
    const inSyncMs = Math.round(performance.now() - started);
    const sentBytes = this.#sentTo(follower) - sentBefore;
    const snapshotBytes = await this.#compare(index);
    const errors = follower.command!.stderr.split("\n").filter((line) => /"level":(50|60)|ERROR|FATAL/.test(line));
    const { installs } = follower.counts;
    if (installs === 0) throw new Error(`${follower.id} came back without a snapshot: nothing was trimmed`);
    return { snapshotBytes, sentBytes, writeMs, inSyncMs, installs, disturbed: this.#disturbed, errors };
  }

  async #moveLeadershipFrom(node: NodeProcess): Promise<void> {
    await this.#until("there is a leader", () => this.cluster.leader());
    await this.#until(`${node.id} is no leader`, async () => {
      const leader = await this.cluster.leader();
      if (leader === undefined || leader !== node) return leader;
      await node.channel
        .client(AdminService)
        .transferLeadership({})
        .catch(() => {});
      return undefined;
    });
  }

  async #write(): Promise<number> {
    const { keys, valueBytes } = this.options;
    const running = this.cluster.running.map(({ front }) => front.address);
    const started = performance.now();
    await using client = new CairnClient({ endpoints: running, timeoutMs: 60_000 });
    let next = 0;
    const writer = async () => {
      while (next < keys) {
        const at = next++;
        await client.put(`key-${String(at).padStart(9, "0")}`, valueAt(at, valueBytes));
        if (at % 50_000 === 49_999) this.#say(`${at + 1} keys`);
      }
    };
    await Promise.all(Array.from({ length: PIPELINED }, writer));
    return Math.round(performance.now() - started);
  }

  async #disturb(follower: NodeProcess): Promise<void> {
    switch (this.options.disturbance) {
      case "none":
        return;
      case "link cut three times":
        for (const share of [0.2, 0.5, 0.8]) {
          await this.#transferAt(share);
          for (const link of follower.links.values()) link.breakConnections();
          this.#disturbed++;
        }
        return;
      case "follower killed":
        await this.#transferAt(0.6);
        await follower.end();
        this.#disturbed++;
        return this.cluster.launch(follower);
      case "leader killed": {
        const leader = await this.#transferAt(0.5);
        await leader.end();
        this.#disturbed++;
        // Without it, and with a follower that is not there yet, the one that is left cannot commit; but it can lead once it is back.
        return this.cluster.launch(leader);
      }
    }
  }

  /** Waits until so much of a snapshot is there; returns who sends it. */
  #transferAt(share: number): Promise<NodeProcess> {
    return this.#until(`${share * 100} % of a snapshot have arrived`, async () => {
      for (const node of this.cluster.running) {
        const { transfers } = await node.channel.client(AdminService).listTransfers({}).catch(noTransfers);
        for (const { sending, doneBytes, totalBytes } of transfers) {
          if (sending && Number(doneBytes) >= share * Number(totalBytes) && doneBytes < totalBytes) return node;
        }
      }
      return undefined;
    });
  }

  /** Waits until all have applied the same; returns that index. */
  async #inSync(nodes: readonly NodeProcess[]): Promise<bigint> {
    return this.#until("all members have applied the same", async () => {
      const target = (await (await this.cluster.leader())?.status())?.commitIndex;
      const statuses = await Promise.all(nodes.map((node) => node.status()));
      return target !== undefined && statuses.every((status) => status?.appliedIndex === target) ? target : undefined;
    });
  }

  /** The states must be the same, byte for byte. Returns the size of their snapshot. */
  async #compare(index: bigint): Promise<number> {
    const snapshots = await this.#takeSnapshots(index);
    const digests = snapshots.map(({ sha256 }) => Buffer.from(sha256).toString("hex"));
    if (new Set(digests).size !== 1) throw new Error(`the states at index ${index} differ: ${digests}`);
    return Number(snapshots[0]!.fileBytes);
  }

  /** All nodes that run take one at this index. */
  async #takeSnapshots(index: bigint): Promise<SnapshotInfo[]> {
    return Promise.all(
      this.cluster.running.map(async ({ id, channel }) => {
        const admin = channel.client(AdminService);
        await admin.takeSnapshot({ trigger: { case: "index", value: index } });
        const { snapshots } = await admin.listSnapshots({});
        const info = snapshots.find((snapshot) => snapshot.index === index);
        if (info === undefined) throw new Error(`${id} has no snapshot at index ${index}`);
        return info;
      }),
    );
  }

  #linkOf() {
    const { bytesPerSecond } = this.options;
    return bytesPerSecond === undefined ? {} : { bytesPerSecond };
  }

  #sentTo(node: NodeProcess): number {
    return [...node.links.values()].reduce((sum, link) => sum + link.forwardedBytes, 0);
  }

  #say(line: string): void {
    this.options.progress?.(line);
  }

  /** Waits until `look` finds something; as long as anything about the members changes, however long it takes. */
  async #until<Found>(what: string, look: () => Promise<Found | undefined>): Promise<Found> {
    let known = "";
    let changedAt = performance.now();
    for (;;) {
      const found = await look();
      if (found !== undefined) return found;
      const facts = await this.#facts();
      if (facts !== known) [known, changedAt] = [facts, performance.now()];
      if (performance.now() - changedAt > STUCK_MS) throw new Error(`waited in vain until ${what}: ${facts}`);
      await pause(20);
    }
  }

  async #facts(): Promise<string> {
    const facts = await Promise.all(
      this.cluster.nodes.map(async (node) => {
        const status = await node.status();
        if (status === undefined) return `${node.id} does not answer`;
        const { transfers } = await node.channel.client(AdminService).listTransfers({}).catch(noTransfers);
        const moved = transfers.map(({ doneBytes, totalBytes }) => `${doneBytes} of ${totalBytes} bytes`);
        const { term, role, appliedIndex, commitIndex, snapshotIndex } = status;
        return `${node.id} term ${term} role ${role} applied ${appliedIndex} commit ${commitIndex} snapshot ${snapshotIndex} ${moved}`;
      }),
    );
    return facts.join("; ");
  }
}

function noTransfers() {
  return { transfers: [] };
}

/** Values that do not compress to nothing, and differ. */
function valueAt(at: number, bytes: number): Uint8Array {
  const value = Buffer.alloc(bytes);
  let mixed = at + 1;
  for (let place = 0; place + 4 <= bytes; place += 4) {
    mixed = (Math.imul(mixed, 1_664_525) + 1_013_904_223) >>> 0;
    value.writeUInt32LE(mixed, place);
  }
  return value;
}
