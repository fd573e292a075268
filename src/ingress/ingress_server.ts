import type { Socket } from "node:net";
import * as grpc from "@grpc/grpc-js";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { KeyValueService } from "../../gen/cairn/v1/kv_pb.js";
import { LeaseService } from "../../gen/cairn/v1/lease_pb.js";
import { MachineService } from "../../gen/cairn/v1/machine_pb.js";
import { methodPath } from "../rpc/codec.js";
import { FloodGuard } from "../rpc/floods/flood_guard.js";
import type { FloodLimits } from "../rpc/floods/flood_limits.js";
import { guardServer } from "../rpc/floods/guard_server.js";
import { serverOptions } from "../rpc/grpc_options.js";
import { noteCallers } from "../rpc/security/connections.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import { addService } from "../rpc/server.js";
import { widenWindows } from "../rpc/server_windows.js";
import { CallProxy } from "./call_proxy.js";
import { DRAIN_MS } from "./messages.js";
import { NodeLink } from "./node_link.js";
import { unaryMethods } from "./unary_methods.js";

// Serves clients in an ingress process.

/** Methods of services that other libraries define. */
const DISCOVERY_PATHS = [
  "/grpc.health.v1.Health/Check",
  "/grpc.health.v1.Health/List",
  "/grpc.health.v1.Health/Watch",
  "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
  "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

const OPERATOR_PATH = `/${AdminService.typeName}/`;

/** All services for clients and operators. RaftService is for peers, which use the node's port. */
const SERVICES = [KeyValueService, LeaseService, AdminService, MachineService];

export interface IngressServerOptions {
  /** Limits against floods that differ from the defaults. */
  readonly limits?: Partial<FloodLimits> | undefined;
  /** The node's certificates, for clients. Without them, their connections are not encrypted. */
  readonly tls?: NodeTls | undefined;
  /** The node asks who makes each call. */
  readonly tellsClients?: boolean | undefined;
  /** Called with an error that is no CairnError. */
  readonly onUnexpectedError?: ((error: unknown, method: string) => void) | undefined;
}

/**
 * The gRPC server of an ingress process. Unary key-value calls go to the node in batches; all other
 * calls are passed through as they are.
 */
export class IngressServer {
  readonly #server = new grpc.Server(serverOptions);
  readonly #link: NodeLink;
  readonly #proxy: CallProxy;
  readonly #connections: ReturnType<grpc.Server["createConnectionInjector"]>;

  /** `node`: address at which the node serves. */
  constructor(node: string, options: IngressServerOptions = {}) {
    const { limits, tls, tellsClients = false, onUnexpectedError = () => {} } = options;
    this.#link = new NodeLink(node, tellsClients);
    this.#proxy = new CallProxy(node, tellsClients);
    widenWindows(this.#server);
    guardServer(this.#server, new FloodGuard({ limits, isPatient: (path) => path.startsWith(OPERATOR_PATH) }));
    noteCallers(this.#server, tls);
    addService(this.#server, KeyValueService, unaryMethods(this.#link), {
      isPartial: true,
      onUnexpectedError,
    });
    const paths = SERVICES.flatMap(({ methods }) => methods.map(methodPath));
    for (const path of [...paths, ...DISCOVERY_PATHS]) this.#proxy.addTo(this.#server, path);
    this.#connections = this.#server.createConnectionInjector(
      tls?.serverCredentials ?? grpc.ServerCredentials.createInsecure(),
    );
  }

  /** Serves a connection from which nothing was read. */
  take(connection: Socket): void {
    this.#connections.injectConnection(connection);
  }

  /** Lets the calls under way end, and cuts off those that do not end in time. */
  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => this.#server.forceShutdown(), DRAIN_MS);
      this.#server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.#link.close();
    this.#proxy.close();
  }
}
