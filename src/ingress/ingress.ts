import { createServer, type Server, type Socket } from "node:net";
import { checkExposure } from "../base/addresses.js";
import { limits } from "../base/limits.js";
import { limitRefusals } from "../base/telemetry/refusals.js";
import type { FloodLimits } from "../rpc/floods/flood_limits.js";
import type { NodeTlsFiles } from "../rpc/security/tls_material.js";
import { warnOfExposure } from "../server/node_security.js";
import { listenAddressOf, listenAt } from "../system/listening.js";
import { type Logger, silentLogger } from "../system/logger.js";
import { IngressProcess } from "./ingress_process.js";

// Accepts the clients' connections, and spreads them over ingress processes.

const WORDS = { address: "ingress address", failure: "cannot take client connections on" } as const;

export interface IngressOptions {
  /** Number of ingress processes, 1 to `limits.ingressProcesses`. */
  readonly processes: number;
  /** host:port for clients; port 0 takes a free one. */
  readonly listen: string;
  /** Limits against floods that differ from the defaults, for each process. */
  readonly limits?: Partial<FloodLimits> | undefined;
  /** Certificates for clients. Without them their connections are not encrypted. */
  readonly tls?: NodeTlsFiles | undefined;
  /** The node has an access file, and asks who makes each call. */
  readonly tellsClients?: boolean | undefined;
  /** Allows an address other than a loopback address without TLS. Default false. */
  readonly insecure?: boolean | undefined;
  readonly logger?: Logger | undefined;
}

/**
 * Processes in front of a node that take HTTP/2 and protobuf of its clients' calls off its event
 * loop. {@link open} it, start the node's server, then {@link serve}.
 *
 * The node's process accepts a connection, and passes it on before it reads a byte of it, to the
 * ingress process with the fewest connections. All of them share one address, on every platform and
 * version of Node.
 */
export class Ingress {
  readonly #server: Server;
  readonly #logger: Logger;
  readonly #count: number;
  readonly #limits: Partial<FloodLimits>;
  readonly #tls: NodeTlsFiles | undefined;
  readonly #tellsClients: boolean;
  #processes: IngressProcess[] = [];
  /** Connections that no process takes at present. */
  #waiting: Socket[] = [];
  #isStopped = false;

  private constructor(
    server: Server,
    /** Address that clients connect to: host:port with the real port. */
    readonly address: string,
    { processes, tls, tellsClients = false, limits: floodLimits = {}, logger = silentLogger }: IngressOptions,
  ) {
    this.#limits = floodLimits;
    this.#server = server;
    this.#count = processes;
    this.#tls = tls;
    this.#tellsClients = tellsClients;
    this.#logger = logger;
    server.on("connection", (connection) => {
      // A connection that breaks while it waits closes itself.
      connection.on("error", () => {});
      this.#assign(connection);
    });
    server.on("error", (error) => this.#logger.error({ err: error }, "the ingress could not accept a connection"));
  }

  /**
   * Listens for clients, whose connections wait until {@link serve} is called.
   * @throws CairnError INVALID_ARGUMENT when the address cannot be listened on, or when it is no
   * loopback address, and there is neither TLS nor `insecure`
   */
  static async open(options: IngressOptions): Promise<Ingress> {
    const { listen, tls, insecure = false, logger = silentLogger } = options;
    const at = listenAddressOf(listen, WORDS);
    checkExposure(listen, { tls: tls !== undefined, insecure });
    const server = createServer({ pauseOnConnect: true, noDelay: true });
    const address = await listenAt(server, at, WORDS);
    if (tls === undefined) warnOfExposure(listen, logger);
    return new Ingress(server, address, options);
  }

  /**
   * Starts the processes in front of the node that serves at `node`, on this machine: host:port, or
   * unix: and the path of a socket. Resolves
   * when one of them serves; they start again whenever they end. Call it once.
   */
  serve(node: string): Promise<void> {
    return new Promise((resolve) => {
      this.#processes = Array.from(
        { length: this.#count },
        () =>
          new IngressProcess({
            node: loopbackOf(node),
            limits: this.#limits,
            tls: this.#tls,
            tellsClients: this.#tellsClients,
            logger: this.#logger,
            onReady: () => {
              resolve();
              this.#assignAll(this.#waiting.splice(0));
            },
            onReturned: (connections) => this.#assignAll(connections),
          }),
      );
    });
  }

  /** Connections of clients. */
  get connections(): number {
    return this.#waiting.length + this.#processes.reduce((sum, { connections }) => sum + connections, 0);
  }

  /** Accepts no more connections, lets the calls under way end, and ends the processes. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#server.close();
    for (const connection of this.#waiting.splice(0)) connection.destroy();
    await Promise.all(this.#processes.map((each) => each.stop()));
  }

  #assignAll(connections: readonly Socket[]): void {
    for (const connection of connections) this.#assign(connection);
  }

  #assign(connection: Socket): void {
    if (connection.destroyed) return;
    if (this.#isStopped) return void connection.destroy();
    const least = leastLoaded(this.#processes);
    if (least !== undefined) least.give(connection);
    else if (this.#waiting.length < limits.ingressWaitingConnections) this.#waiting.push(connection);
    else {
      limitRefusals.add("ingressWaitingConnections");
      connection.destroy();
    }
  }
}

/** Returns the process with the fewest connections, of those that take any. */
function leastLoaded(processes: readonly IngressProcess[]): IngressProcess | undefined {
  let least: IngressProcess | undefined;
  for (const each of processes) {
    if (each.load !== undefined && (least?.load === undefined || each.load < least.load)) least = each;
  }
  return least;
}

/** Returns the address at which a process of this machine reaches a listener on `listen`. */
function loopbackOf(listen: string): string {
  return listen.replace(/^(0\.0\.0\.0|\*):/, "127.0.0.1:").replace(/^(\[::\]|::):/, "[::1]:");
}
