// Drives a cluster with calls: through the load generator, or through a client in a process of its
// own.
import { startProcess } from "../node.mjs";

/** Keys of different sizes of values are different keys. */
export function prefixOf(valueBytes) {
  return `v${valueBytes}-`;
}

/** The drivers of one cluster. Close them before the cluster stops. */
export class Drivers {
  #processes;
  #cluster;
  #sources;
  #clients = new Map();

  constructor(processes, cluster, sources) {
    this.#processes = processes;
    this.#cluster = cluster;
    this.#sources = sources;
  }

  /**
   * Makes the calls of a cell (see compare/rows.mjs), and returns the figures that the load
   * generator names.
   */
  async run(cell, times) {
    const plan = { ...cell, ...times, prefix: prefixOf(cell.valueBytes) };
    return cell.driver === "load" ? this.#load(plan) : (await this.client(cell)).ask("run", plan);
  }

  /** Puts each key once, then waits until all nodes have applied that. Only a client tries again. */
  async fill({ keys, valueBytes, callers = 512, driver = this.#fillDriver() }) {
    const cell = { driver, op: "fill", route: "all", callers, valueBytes };
    const result = await this.run(cell, { keys, seconds: 1, warm: 0 });
    if (result.errors > 0) throw new Error(`${result.errors} of ${keys} keys were not put: ${result.firstError}`);
    await this.#cluster.inSync();
    return result;
  }

  #fillDriver() {
    if (this.#sources.load.path !== undefined) return "load";
    return { etcd: "etcd3", cairn: "cairn" }[this.#cluster.system];
  }

  close() {
    for (const client of this.#clients.values()) client.kill();
    this.#clients.clear();
  }

  async #load({ op, route, callers, valueBytes, keys, rate = 0, seconds, warm, prefix }) {
    const endpoints = route === "leader" ? [await this.#cluster.leader()] : this.#cluster.running;
    const options = {
      system: this.#cluster.system,
      endpoints: endpoints.map(({ address }) => address).join(","),
      op,
      callers,
      seconds,
      warm,
      value: valueBytes,
      keys,
      prefix,
      rate,
    };
    const args = Object.entries(options).map(([name, value]) => `-${name}=${value}`);
    return JSON.parse(await this.#processes.run(this.#sources.load.path, args));
  }

  /** Returns the process of a client (see client_driver.mjs), which starts when it is needed. */
  async client({ driver: name, route }) {
    const toLeader = name === "unary" && route === "leader";
    const endpoints = toLeader ? [(await this.#cluster.leader()).address] : this.#cluster.addresses;
    const key = [name, ...endpoints].join(" ");
    let client = this.#clients.get(key);
    if (client === undefined) {
      // It ends with this process: its channel closes then.
      client = await startProcess(new URL("client_driver.mjs", import.meta.url), []);
      this.#clients.set(key, client);
      await client.ask("open", { name, endpoints, packageFile: this.#sources.etcd3?.path });
    }
    return client;
  }
}
