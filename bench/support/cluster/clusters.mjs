// Runs a cluster of either system on this machine, each node a process.
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePorts } from "../free_ports.mjs";
import { NodeConnection } from "./protocols.mjs";
import { Usage } from "./usage.mjs";

const CAIRN = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));
const PROBE = new URL("probe.mjs", import.meta.url).href;
/** Bound on everything that a cluster is waited for, unless the caller sets another. */
const PATIENCE_MS = 180_000;
const POLL_MS = 5;

/** A cluster, all of whose nodes run unless one was killed. */
export class Cluster {
  #processes;
  #patienceMs;
  #probed;

  constructor(system, processes, nodes, { patienceMs, probed }) {
    this.system = system;
    this.nodes = nodes;
    this.#processes = processes;
    this.#patienceMs = patienceMs;
    this.#probed = probed;
  }

  /**
   * Starts a new cluster in an empty directory; resolves when it has a leader.
   * @param options.etcd the binary of etcd
   * @param options.members number of nodes
   * @param options.probed Cairn only: each node counts its bytes on the network (see probe.mjs)
   */
  static async start(system, processes, directory, options) {
    const { etcd, members = 3, patienceMs = PATIENCE_MS, probed = false } = options;
    const plan = { cairn: cairnNodes, etcd: etcdNodes }[system];
    const nodes = plan(nodesOf(directory, await freePorts(2 * members)), { etcd, probed });
    const cluster = new Cluster(system, processes, nodes, { patienceMs, probed });
    for (const node of cluster.nodes) cluster.startNode(node);
    try {
      await cluster.leader();
      cluster.checkWhole();
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** @throws when a node has ended that nobody killed */
  checkWhole() {
    const ended = this.nodes.find(({ process }) => !process.runs);
    if (ended !== undefined) throw new Error(`${ended.name} of ${this.system} has ended: ${ended.process.lastWords()}`);
  }

  get addresses() {
    return this.nodes.map(({ address }) => address);
  }

  startNode(node) {
    node.process = this.#processes.start(node.command, node.args, node.log, { channel: this.#probed });
    node.usage = new Usage(node.process.pid);
    node.connection = new NodeConnection(this.system, node.address);
  }

  async kill(node) {
    node.connection.close();
    node.usage.stop();
    await node.process.kill();
  }

  async stop() {
    await Promise.all(this.nodes.map((node) => this.kill(node)));
  }

  /** Waits until all nodes that run name the same leader, and returns that node. */
  leader() {
    return this.#until("one leads", async (nodes) => {
      const statuses = await Promise.all(nodes.map(({ connection }) => connection.status()));
      const [{ leader }] = statuses;
      if (leader === undefined || statuses.some((each) => each.leader !== leader)) return undefined;
      return nodes[statuses.findIndex(({ id }) => id === leader)];
    });
  }

  get running() {
    return this.nodes.filter(({ process }) => process.runs);
  }

  /** Waits until all nodes that run have applied all that the leader has committed by now. */
  async inSync() {
    const committed = await this.committed();
    await Promise.all(this.running.map((node) => this.applied(node, committed)));
  }

  /** The leader's commit index. */
  async committed() {
    const { connection } = await this.leader();
    return (await connection.status()).committed;
  }

  /** Waits until a node has applied an index. */
  applied(node, index) {
    return this.#until(`${node.name} has applied ${index}`, async () => {
      const { applied } = await node.connection.status();
      return applied >= index ? true : undefined;
    });
  }

  /** Waits for the first linearizable read that any node answers. */
  async firstRead(key) {
    const abort = new AbortController();
    const read = (node) => this.#until(`${node.name} answers`, () => readOnce(node, key), abort.signal);
    try {
      await Promise.any(this.nodes.map(read));
    } finally {
      abort.abort();
    }
  }

  async #until(condition, look, signal) {
    const deadline = performance.now() + this.#patienceMs;
    let last;
    for (;;) {
      signal?.throwIfAborted();
      if (this.running.length === 0) break;
      try {
        const found = await look(this.running);
        if (found !== undefined) return found;
      } catch (error) {
        last = error;
      }
      if (performance.now() > deadline) break;
      await pause(POLL_MS);
    }
    const words = this.nodes.map(({ name, process }) => `${name}: ${process.lastWords()}`);
    throw new Error([`waited in vain until ${condition} (${this.system})`, ...words].join("\n"), { cause: last });
  }
}

async function readOnce({ connection }, key) {
  await connection.get(key, 1_000);
  return true;
}

function cairnNodes(nodes, { probed }) {
  const start = probed ? ["--import", PROBE, CAIRN, "start"] : [CAIRN, "start"];
  const founders = nodes.map(({ name, address }) => `${name}=${address}`).join(",");
  return nodes.map((node) => ({
    ...node,
    command: process.execPath,
    args: [...start, "--id", node.name, "--data", node.data, "--listen", node.address, "--cluster", founders],
  }));
}

/** etcd's own defaults, but with room for a history that is never compacted. */
function etcdNodes(nodes, { etcd }) {
  const founders = nodes.map(({ name, peer }) => `${name}=${peer}`).join(",");
  return nodes.map(({ name, data, address, peer, log }) => {
    const client = `http://${address}`;
    const where = ["--listen-client-urls", client, "--advertise-client-urls", client];
    const peers = ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", founders];
    const limits = ["--quota-backend-bytes", String(16 * 2 ** 30), "--log-level", "error"];
    return {
      name,
      data,
      address,
      log,
      command: etcd,
      args: ["--name", name, "--data-dir", data, ...where, ...peers, ...limits],
    };
  });
}

/** Two ports for each node: etcd's peers have one of their own. */
function nodesOf(directory, ports) {
  const members = ports.length / 2;
  return Array.from({ length: members }, (_, at) => {
    const name = `n${at + 1}`;
    return {
      name,
      address: `127.0.0.1:${ports[at]}`,
      peer: `http://127.0.0.1:${ports[members + at]}`,
      data: join(directory, name),
      log: join(directory, `${name}.log`),
    };
  });
}
