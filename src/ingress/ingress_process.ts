import { type ChildProcess, fork } from "node:child_process";
import type { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { limitRefusals } from "../base/telemetry/refusals.js";
import type { FloodLimits } from "../rpc/floods/flood_limits.js";
import type { NodeTlsFiles } from "../rpc/security/tls_material.js";
import type { Logger } from "../system/logger.js";
import { DRAIN_MS, type FromIngress, type ToIngress } from "./messages.js";
import { RestartPause } from "./restart_pause.js";

// Runs one ingress process, and starts it again when it has ended.

/**
 * The build puts the program of an ingress process beside this file. Tests run the sources, which
 * have no such file beside them.
 */
const PROGRAM = import.meta.url.endsWith(".ts") ? "../../dist/src/ingress/ingress_main.js" : "./ingress_main.js";

/** An ingress process that has not ended this long after it was told to is killed. */
const STOP_PATIENCE_MS = 2 * DRAIN_MS;

export interface IngressProcessOptions {
  /** Address at which the node serves. */
  readonly node: string;
  readonly limits: Partial<FloodLimits>;
  /** Certificates for clients. */
  readonly tls: NodeTlsFiles | undefined;
  /** The node asks who makes each call. */
  readonly tellsClients: boolean;
  readonly logger: Logger;
  /** It serves from now on, and may be given connections. */
  readonly onReady: () => void;
  /** It has ended before it took these connections, which are open. */
  readonly onReturned: (connections: readonly Socket[]) => void;
}

/** An ingress process, for as long as its node runs. */
export class IngressProcess {
  readonly #pause = new RestartPause();
  #child: ChildProcess | undefined;
  #isReady = false;
  /** Connections that it was given and that are not closed. */
  #connections = 0;
  /** Connections that it has not taken, in order. Only the first of them is on its way. */
  #untaken: Socket[] = [];
  #restart: NodeJS.Timeout | undefined;
  #stopping: Promise<void> | undefined;
  #ended: () => void = () => {};

  constructor(private readonly options: IngressProcessOptions) {
    this.#start();
  }

  /** Number of connections that it has; undefined when it takes none at present. */
  get load(): number | undefined {
    return this.#isReady && this.#stopping === undefined ? this.#connections : undefined;
  }

  /** Connections that it has. */
  get connections(): number {
    return this.#connections;
  }

  /** Gives it a connection from which nothing was read. */
  give(connection: Socket): void {
    this.#connections++;
    this.#untaken.push(connection);
    if (this.#untaken.length === 1) this.#handOver();
  }

  /** Lets its calls end, then ends it, and does not start it again. */
  stop(): Promise<void> {
    this.#stopping ??= new Promise((resolve) => {
      clearTimeout(this.#restart);
      const child = this.#child;
      if (child === undefined) return resolve();
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_PATIENCE_MS);
      this.#ended = () => {
        clearTimeout(timer);
        resolve();
      };
      this.#send({ kind: "stop" });
    });
    return this.#stopping;
  }

  #start(): void {
    const startedMs = performance.now();
    // Without the options of the node's own process, some of which are for its main program only.
    const child = fork(fileURLToPath(new URL(PROGRAM, import.meta.url)), {
      execArgv: [],
      // Standard output is the node's.
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.#child = child;
    let hasEnded = false;
    const ended = (how: string) => {
      if (hasEnded) return;
      hasEnded = true;
      this.#gone(child.pid, how, performance.now() - startedMs);
    };
    child.on("message", (message: FromIngress) => {
      // Messages of a process that has ended may still be on their way.
      if (child === this.#child) this.#received(message);
    });
    child.once("exit", (code, signal) => ended(signal === null ? `exit code ${code}` : signal));
    // Also when a message cannot be sent, as the process has ended: "exit" follows then.
    child.on("error", (error) => {
      if (child.pid === undefined) ended(error.message);
    });
    const { node, limits, tls, tellsClients } = this.options;
    this.#send({ kind: "serve", node, limits, tls, tellsClients });
  }

  #received(message: FromIngress): void {
    switch (message.kind) {
      case "ready":
        this.#isReady = true;
        this.options.logger.info({ pid: this.#child?.pid }, "an ingress process serves");
        this.options.onReady();
        break;
      case "taken":
        // Closes only this process's hold on the connection.
        this.#untaken.shift()?.destroy();
        this.#handOver();
        break;
      case "closed":
        this.#connections--;
        break;
      case "refused": {
        const { address, reason, times } = message;
        this.options.logger.warn({ address, reason, times }, "an ingress process refused a connection");
        break;
      }
      case "limited":
        for (const [limit, times] of message.refusals) limitRefusals.add(limit, times);
        break;
      case "failed": {
        const { method, error } = message;
        this.options.logger.error({ err: Object.assign(new Error(), error), method }, "an ingress process failed");
      }
    }
  }

  /** One connection at a time is on its way, so that none is lost with the process. */
  #handOver(): void {
    const connection = this.#untaken[0];
    if (connection !== undefined) this.#send({ kind: "connection" }, connection);
  }

  #send(message: ToIngress, connection?: Socket): void {
    // A failure shows in the end of the process.
    this.#child?.send(message, connection, { keepOpen: true }, () => {});
  }

  #gone(pid: number | undefined, reason: string, ranMs: number): void {
    this.#child = undefined;
    this.#isReady = false;
    this.#connections = 0;
    const untaken = this.#untaken;
    this.#untaken = [];
    if (this.#stopping === undefined) {
      const pauseMs = this.#pause.after(ranMs);
      this.options.logger.warn({ pid, reason, retryMs: pauseMs }, "an ingress process has ended, and is started again");
      this.#restart = setTimeout(() => this.#start(), pauseMs);
    }
    this.options.onReturned(untaken);
    this.#ended();
  }
}
