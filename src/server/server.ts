import type { DescService } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { AdminService } from "../../gen/cairn/v1/admin_pb.js";
import { RaftService } from "../../gen/cairn/v1/raft_pb.js";
import { checkExposure } from "../base/addresses.js";
import { checkObject, checkText } from "../base/arguments.js";
import { CairnError } from "../base/errors.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { CairnNode } from "../node/node.js";
import { CertificateAdmission, openAdmission } from "../peers/peer_admission.js";
import { raftService } from "../peers/peer_service.js";
import { FloodGuard } from "../rpc/floods/flood_guard.js";
import type { FloodLimits } from "../rpc/floods/flood_limits.js";
import { guardServer } from "../rpc/floods/guard_server.js";
import { serverOptions } from "../rpc/grpc_options.js";
import { ingressCredentials, noteCallers } from "../rpc/security/connections.js";
import type { MemberCredentials } from "../rpc/security/member_credentials.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import { addService } from "../rpc/server.js";
import { widenWindows } from "../rpc/server_windows.js";
import { type Logger, silentLogger } from "../system/logger.js";
import { AccessControl } from "./access/access_control.js";
import { adminService } from "./admin/admin_service.js";
import { StateComparison } from "./admin/verify_state.js";
import { CallMeasures } from "./call_measures.js";
import { Health, healthService } from "./discovery/health.js";
import { addLazyReflection } from "./discovery/reflection.js";
import type { Introducer } from "./introducer.js";
import { keyValueServices } from "./key_value_services.js";
import type { KeyValueNode } from "./kv/key_value_node.js";
import type { MachineServices } from "./machine_services.js";
import { warnOfExposure } from "./node_security.js";
import { type PeerProofs, peerCalls } from "./peer_calls.js";
import { peerEndpoint } from "./peer_endpoint.js";
import type { ServedNode } from "./served_node.js";

// Serves all gRPC services of a node on one port.

/** Time that running calls have to end when the server stops, in milliseconds. */
const STOP_GRACE_MS = 2_000;

export interface ServerOptions {
  /** host:port; port 0 takes a free one. */
  readonly listen: string;
  /** Serve health and reflection, for grpcurl and load balancers. Default true. */
  readonly discoverable?: boolean | undefined;
  /**
   * host:port of members as this node reaches them, by id, if it differs from the address in the
   * membership.
   */
  readonly peerAddresses?: Readonly<Record<string, string>> | undefined;
  /**
   * Introduces the node to nodes that have no cluster in common with it. Default: as a member of
   * its cluster.
   * @internal
   */
  readonly introducer?: Introducer | undefined;
  /** Limits against floods, by name, that differ from the defaults: see docs/limits.md. */
  readonly limits?: Partial<FloodLimits> | undefined;
  /**
   * Path of an access file, which names the callers and what they may do. Default: everybody may do
   * everything. See docs/access.md.
   */
  readonly access?: string | undefined;
  /**
   * The same, read already; the server does not close it.
   * @internal
   */
  readonly accessControl?: AccessControl | undefined;
  /**
   * Credentials of the connections to other members. Default: {@link security}.
   * @internal
   */
  readonly members?: MemberCredentials | undefined;
  /**
   * Certificates of the node: the port speaks TLS, and RaftService is for the members that they
   * name. See {@link openNodeTls}.
   */
  readonly security?: NodeTls | undefined;
  /** Allows an address other than a loopback address without TLS. Default false. */
  readonly insecure?: boolean | undefined;
  /**
   * Path of a socket in a directory that only this user may enter, for the node's own ingress
   * processes.
   * @internal
   */
  readonly ingressSocket?: string | undefined;
  readonly logger?: Logger | undefined;
}

export type { FloodLimits };

/** Options for a node whose state machine is not the key-value store. */
export interface OwnServerOptions extends ServerOptions {
  readonly machineServices: MachineServices;
}

/** The gRPC server of a node: all its services on one port. */
export class CairnServer {
  private constructor(
    private readonly server: grpc.Server,
    /** Address that the server listens on: host:port with the real port. */
    readonly address: string,
    private readonly setServing: (serving: boolean) => void,
    private readonly stopping: AbortController,
    private readonly machine: MachineServices,
    private readonly comparison: StateComparison,
    private readonly closeAccess: () => void,
    private readonly guard: Pick<FloodGuard, "connectionCounts">,
    /** Counts and times of the calls that it answers. @internal */
    readonly calls: CallMeasures,
  ) {}

  /** Number of connections to the server, by the part that they play. @internal */
  get connections(): Readonly<Record<string, number>> {
    return this.guard.connectionCounts;
  }

  /** Number of things that the services hold for their callers, by name. @internal */
  get holdings(): Readonly<Record<string, number>> {
    return this.machine.holdings();
  }

  /**
   * Starts to serve a node of the key-value store, or of another state machine with its own
   * services.
   * @throws CairnError INVALID_ARGUMENT when the server cannot listen on the address, or when it is
   * no loopback address, and there is neither TLS nor `insecure`
   */
  static start(node: KeyValueNode, options: ServerOptions): Promise<CairnServer>;
  static start<Result, Machine extends StateMachine<Result>>(
    node: CairnNode<Result, Machine>,
    options: OwnServerOptions,
  ): Promise<CairnServer>;
  static async start(
    node: ServedNode,
    options: ServerOptions & { readonly machineServices?: MachineServices },
  ): Promise<CairnServer> {
    checkObject("node", node);
    checkText("listen", checkObject("options", options).listen);
    const { security, listen, insecure = false } = options;
    const logger = options.logger ?? silentLogger;
    if (!/^.+:\d{1,5}$/.test(listen)) {
      throw new CairnError("INVALID_ARGUMENT", `listen address ${JSON.stringify(listen)} must be host:port`);
    }
    checkExposure(listen, { tls: security !== undefined, insecure });
    const server = new grpc.Server(serverOptions);
    if (!widenWindows(server)) logger.warn({}, "this version of grpc-js has narrow windows: snapshots arrive slowly");
    const opened = options.access === undefined ? undefined : openAccess(options.access, options);
    const access = options.accessControl ?? opened;
    const floodGuard = guardAgainstFloods(server, { node, security, access }, options.limits, logger);
    noteCallers(server, security);
    const onUnexpectedError = (error: unknown, method: string) => logger.error({ err: error, method }, "a call failed");
    const stopping = new AbortController();
    if (access !== undefined) security?.refuse((fingerprint) => access.policy.revoked.has(fingerprint));
    const guard = access?.guardOf(node, security);
    const { members = security } = options;
    const machine = options.machineServices ?? keyValueServices(node as KeyValueNode, members);
    const comparison = new StateComparison(node, machine, options.peerAddresses, members);
    const endpoint = peerEndpoint(node, options.introducer);
    const admission =
      security === undefined
        ? openAdmission
        : new CertificateAdmission(security, (caller, reason) => endpoint.strange(caller, reason));
    const calls = new CallMeasures();
    const common = { onUnexpectedError, observe: calls.observe, guard };
    // A peer's stream would never end.
    addService(server, RaftService, raftService(endpoint, admission), { ...common, stopping: stopping.signal });
    machine.addTo(server, { ...common, isTraced: true });
    const admin = adminService(node, comparison, options.introducer, security);
    addService(server, AdminService, admin, { ...common, isTraced: true });
    const services = [RaftService, ...machine.services, AdminService];
    const setServing = options.discoverable === false ? () => {} : addDiscovery(server, services, access);
    const closeAccess = () => opened?.close();
    const port = await bind(server, listen, security?.serverCredentials).catch((error: unknown) => {
      closeAccess();
      throw error;
    });
    if (options.ingressSocket !== undefined) {
      await bind(server, `unix:${options.ingressSocket}`, ingressCredentials).catch((error: unknown) => {
        server.forceShutdown();
        closeAccess();
        throw error;
      });
    }
    if (security === undefined) warnOfExposure(listen, logger);
    setServing(true);
    const host = listen.slice(0, listen.lastIndexOf(":"));
    const parts = [setServing, stopping, machine, comparison, closeAccess, floodGuard, calls] as const;
    return new CairnServer(server, `${host}:${port}`, ...parts);
  }

  /**
   * Stops: takes no more calls, lets running calls end, and cuts off those that do not end in time.
   * Peers' streams end at once.
   */
  async stop(): Promise<void> {
    this.setServing(false);
    this.stopping.abort(new CairnError("STOPPED", "the node is stopping"));
    this.machine.stop();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => {
        this.server.forceShutdown();
        // A connection that broke as the stop began may keep tryShutdown from its end.
        resolve();
      }, STOP_GRACE_MS);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.machine.close();
    this.comparison.close();
    this.closeAccess();
  }

  /** Stops as if the process had been killed. */
  kill(): void {
    this.server.forceShutdown();
    this.machine.close();
    this.comparison.close();
    this.closeAccess();
  }
}

/** Calls to this service are those of operators, and may take long. */
const OPERATOR_PATH = `/${AdminService.typeName}/`;

function guardAgainstFloods(
  server: grpc.Server,
  proofs: PeerProofs,
  limits: ServerOptions["limits"],
  logger: Logger,
): FloodGuard {
  const isPatient = (path: string) => path.startsWith(OPERATOR_PATH);
  const guard = new FloodGuard({ limits, ...peerCalls(proofs), isPatient });
  if (!guardServer(server, guard)) {
    logger.warn({}, "this version of grpc-js is built differently: the limits against floods do not hold");
  }
  return guard;
}

function openAccess(file: string, { security, logger }: ServerOptions): AccessControl {
  return AccessControl.open({ file, logger, peerProof: security === undefined ? "token" : "certificate" });
}

/** Adds health and reflection. Returns the function that sets the health of all services. */
function addDiscovery(
  server: grpc.Server,
  services: readonly DescService[],
  access: AccessControl | undefined,
): (serving: boolean) => void {
  const names = ["", ...services.map((service) => service.typeName)];
  const health = new Health(names);
  const admit = access && ((...call: Parameters<AccessControl["admit"]>) => access.admit(...call));
  health.addToServer(server, admit);
  addLazyReflection(server, services, () => [healthService()], admit);
  return (serving) => {
    for (const name of names) health.setServing(name, serving);
  };
}

/** Returns the port that the server listens on. */
function bind(
  server: grpc.Server,
  listen: string,
  credentials: grpc.ServerCredentials = grpc.ServerCredentials.createInsecure(),
): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(listen, credentials, (error, port) => {
      if (error === null) resolve(port);
      else
        reject(new CairnError("INVALID_ARGUMENT", `cannot listen on ${listen}: ${reasonOf(error)}`, { cause: error }));
    });
  });
}

function reasonOf({ message }: Error): string {
  return message.includes("EADDRINUSE") ? "the address is in use" : message.replace(/\.+$/, "");
}
