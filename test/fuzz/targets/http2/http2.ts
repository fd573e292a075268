import { connect, type Socket } from "node:net";
import { AdminService } from "../../../../gen/cairn/v1/admin_pb.js";
import type { Random } from "../../../support/random.js";
import { FuzzedCluster, type FuzzedNode } from "../../nodes/cluster.js";
import { expectThat, type Target, type Trace } from "../../run/target.js";
import { type Facts, factsOf } from "../services/facts.js";
import { drawConnection } from "./frames.js";

/** How long a connection is held open when the server does not close it, in milliseconds. */
const HELD_MS = 25;

/** Connections at a time. */
const CONNECTIONS = 8;

/** Raw bytes on the sockets of a cluster's nodes. */
export class Http2Target implements Target {
  readonly name = "http2";
  readonly round = 400;
  readonly #own: boolean;
  #cluster: FuzzedCluster | undefined;
  #facts: Facts | undefined;

  /** @param cluster started by somebody else, who closes it */
  constructor(cluster?: FuzzedCluster) {
    this.#cluster = cluster;
    this.#own = cluster === undefined;
  }

  async prepare(): Promise<void> {
    this.#cluster ??= await FuzzedCluster.start();
    this.#facts = await factsOf(this.#cluster);
  }

  async run(random: Random, trace: Trace): Promise<number> {
    const cluster = this.#cluster!;
    const node = random.pick(cluster.doors);
    const drawn = Array.from({ length: random.oneIn(6) ? random.whole(2, CONNECTIONS) : 1 }, () =>
      drawConnection(random),
    );
    for (const { pieces } of drawn)
      trace(`connection to ${node.id} in ${pieces.length} pieces:`, Buffer.concat(pieces));
    await Promise.all(drawn.map(({ pieces }) => talk(node, pieces, random.oneIn(4))));
    cluster.expectWell();
    return drawn.reduce((sum, { frames }) => sum + frames, 0);
  }

  async check(): Promise<void> {
    const cluster = this.#cluster!;
    // Each node still answers, and nothing that has no caller's name has changed anything.
    for (const { id, channel } of cluster.doors) {
      await cluster.until(`${id} answers`, async () => {
        await channel.client(AdminService).getStatus({}, { timeoutMs: 10_000 });
        return true;
      });
    }
    await cluster.progress();
    const { clusterId } = await factsOf(cluster);
    expectThat(clusterId === this.#facts!.clusterId, () => `the cluster's id has changed to ${clusterId}`);
    await cluster.expectNoLeak();
  }

  async close(): Promise<void> {
    if (this.#own) await this.#cluster?.close();
  }
}

/** Writes the pieces, reads what comes, and closes. */
function talk({ address }: FuzzedNode, pieces: readonly Buffer[], isAbrupt: boolean): Promise<void> {
  const at = address.lastIndexOf(":");
  const socket: Socket = connect(Number(address.slice(at + 1)), address.slice(0, at));
  return new Promise((resolve) => {
    socket.on("error", () => {});
    socket.once("close", () => resolve());
    socket.resume();
    socket.once("connect", () => {
      for (const piece of pieces) socket.write(piece);
      if (isAbrupt) setImmediate(() => socket.resetAndDestroy());
      else setTimeout(() => socket.destroy(), HELD_MS);
    });
  });
}
