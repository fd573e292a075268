import { CairnError } from "../base/errors.js";
import { Ingress, type IngressOptions } from "../ingress/ingress.js";
import { PrivateSocket } from "../ingress/private_socket.js";
import type { StateMachine } from "../machine/state_machine.js";
import { Monitor, type MonitorOptions } from "../monitor/monitor.js";
import type { Monitored } from "../monitor/monitored.js";
import type { CairnNode } from "../node/node.js";
import { grpcTransport } from "../peers/grpc_transport.js";
import type { MemberCredentials } from "../rpc/security/member_credentials.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import type { NodeTlsFiles } from "../rpc/security/tls_material.js";
import type { AccessControl } from "../server/access/access_control.js";
import { openNodeTls } from "../server/node_security.js";
import type { CairnServer, ServerOptions } from "../server/server.js";
import { type Logger, silentLogger } from "../system/logger.js";
import { comesToOthers, openAccess, tokenCredentials } from "./access.js";
import { grpcWorld, type MemberNodeOptions, type ServicesOf } from "./grpc_world.js";
import { type MemberOptions, RunningMember } from "./member.js";
import { peerLog } from "./peer_log.js";
import { peerSnapshotSource } from "./snapshot_source.js";
import type { MemberNode } from "./world.js";

/** Limits of a hand-over at a stop, in election timeouts and in milliseconds. */
const LEADERSHIP_TRANSFER_TIMEOUTS = 2;
const LEADERSHIP_TRANSFER_MS_MAX = 5_000;

/** Options of a member that serves gRPC. */
export interface LaunchOptions<Result, Machine extends StateMachine<Result>> {
  readonly member: Omit<MemberOptions<MemberNode>, "world" | "directory" | "peerAddresses">;
  readonly node: Omit<MemberNodeOptions<Result, Machine>, "transport" | "snapshotSource">;
  readonly servicesOf: ServicesOf<CairnNode<Result, Machine>>;
  /**
   * Milliseconds for which a member that lacks a snapshot asks the others for one before its start
   * fails.
   */
  readonly healTimeoutMs: number;
  /** Ends a start that waits for another member's snapshot. */
  readonly signal: AbortSignal;
  /** Limits against floods that differ from the defaults. */
  readonly limits?: ServerOptions["limits"];
  /** Processes that take the connections of clients. */
  readonly ingress?: MemberIngress | undefined;
  /** An HTTP port for operators. */
  readonly monitor?: MemberMonitor | undefined;
  /** Certificates for clients and for the connections between members. */
  readonly tls?: NodeTlsFiles | undefined;
  /** Allows addresses other than loopback addresses without TLS. */
  readonly insecure?: boolean | undefined;
  /** Path of the access file; undefined: everybody may do everything. */
  readonly access?: string | undefined;
  /** Token with which this member proves to the others that it is one, without certificates. */
  readonly peerToken?: string | undefined;
}

export interface MemberMonitor extends Pick<MonitorOptions, "listen" | "hosts"> {
  /** Called when it serves, with its URL. */
  readonly onServing: (url: string) => void;
}

export interface MemberIngress extends Pick<IngressOptions, "processes" | "listen"> {
  /** Called once, when clients are served at the address, host:port with the real port. */
  readonly onServing: (address: string) => void;
}

/** A member that was started with everything around it. */
export interface LaunchedMember<Node extends MemberNode>
  extends Pick<RunningMember<Node>, "node" | "address" | "failed" | "stop"> {
  /** Its certificates; undefined without TLS. */
  readonly security: NodeTls | undefined;
  /** Credentials of its connections to the others. */
  readonly members: MemberCredentials | undefined;
}

/**
 * Starts a member with its node, its server, its connections to the others, its healing from their
 * snapshots, and its ingress processes.
 * @throws CairnError as {@link openNodeTls}, {@link openAccess}, {@link RunningMember.start} and
 * {@link Ingress.open} do
 */
export async function launch<Result, Machine extends StateMachine<Result>>(
  options: LaunchOptions<Result, Machine>,
): Promise<LaunchedMember<CairnNode<Result, Machine>>> {
  const { tls, ingress, insecure, node } = options;
  checkAuthorities(options);
  const around = new Around();
  try {
    around.security = tls && (await openNodeTls(tls, node));
    around.access = openAccess(options);
    const { access, security } = around;
    if (access !== undefined) security?.refuse((fingerprint) => access.policy.revoked.has(fingerprint));
    around.members = security ?? tokenCredentials(options);
    await around.show(options);
    if (ingress === undefined) return new WholeMember(await startMember(options, around), around);
    // Before the member starts: an address that cannot be had must not show only after a recovery.
    const front = await Ingress.open({
      ...ingress,
      ...{ tls, insecure, limits: options.limits, logger: node.logger },
      tellsClients: around.access !== undefined,
    });
    around.ingress = front;
    const socket = await PrivateSocket.create();
    around.socket = socket;
    const member = await startMember(options, around);
    void front.serve(socket.address).then(() => ingress.onServing(front.address));
    return new WholeMember(member, around);
  } catch (error) {
    await around.stop();
    await around.end();
    throw error;
  }
}

/** Everything around a member that ends with it. */
class Around {
  security: NodeTls | undefined;
  access: AccessControl | undefined;
  members: MemberCredentials | undefined;
  ingress: Ingress | undefined;
  socket: PrivateSocket | undefined;
  monitor: Monitor | undefined;
  /** The member as the monitor shows it; undefined while it starts. */
  monitored: Monitored | undefined;

  /** Opens the HTTP port: a recovery may take long, and this tells that it is under way. */
  async show({ monitor, insecure, node }: ShownOptions): Promise<void> {
    if (monitor === undefined) return;
    const { directory, logger = silentLogger } = node;
    const { security, access, members } = this;
    const allowed = { security, access, members, insecure };
    this.monitor = await Monitor.start({ ...monitor, ...allowed, directory, monitored: () => this.monitored, logger });
    monitor.onServing(this.monitor.url);
  }

  /** Ends the parts that need the member until their calls have ended. */
  async stop(): Promise<void> {
    await Promise.all([this.ingress?.stop(), this.monitor?.stop()]);
  }

  /** Ends the parts that the member needs until it has stopped. */
  async end(): Promise<void> {
    await this.socket?.remove();
    this.security?.close();
    this.access?.close();
  }
}

/** Options of a launch that concern its HTTP port. */
interface ShownOptions {
  readonly monitor?: MemberMonitor | undefined;
  readonly insecure?: boolean | undefined;
  readonly node: { readonly directory: string; readonly logger?: Logger | undefined };
}

/** A member with everything around it. */
class WholeMember<Node extends MemberNode> implements LaunchedMember<Node> {
  constructor(
    private readonly member: RunningMember<Node>,
    private readonly around: Around,
  ) {}

  get node(): Node {
    return this.member.node;
  }

  get address(): string {
    return this.member.address;
  }

  get failed(): Promise<never> {
    return this.member.failed;
  }

  get security(): NodeTls | undefined {
    return this.around.security;
  }

  get members(): MemberCredentials | undefined {
    return this.around.members;
  }

  async stop(): Promise<void> {
    await this.around.stop();
    await this.member.stop();
    await this.around.end();
  }
}

/**
 * Checks that a member with TLS can tell its peers from others.
 * @throws CairnError INVALID_ARGUMENT
 */
function checkAuthorities<Result, Machine extends StateMachine<Result>>({
  tls,
  member: { claim, join },
}: Pick<LaunchOptions<Result, Machine>, "tls" | "member">): void {
  const hasPeers = comesToOthers({ claim, join });
  if (tls === undefined || tls.peerCa !== undefined || !hasPeers) return;
  const text = `${claim.name} has a certificate, but no authority by which it could know the other members`;
  throw new CairnError("INVALID_ARGUMENT", `${text}: give the file of their authority (--tls-peer-ca)`);
}

async function startMember<Result, Machine extends StateMachine<Result>>(
  options: LaunchOptions<Result, Machine>,
  around: Around,
): Promise<RunningMember<CairnNode<Result, Machine>>> {
  const { member, node, servicesOf, healTimeoutMs: patienceMs, signal, insecure, limits } = options;
  const { security, access, members, socket } = around;
  const { peerAddresses = {}, logger = silentLogger } = node;
  // An address given for a name takes precedence over the founders' list.
  const founders = member.claim.founders?.map(({ name, address }) => [name, address] as const) ?? [];
  const addresses = { ...Object.fromEntries(founders), ...peerAddresses };
  const world = grpcWorld<Result, Machine>(
    {
      ...node,
      transport: grpcTransport({ onChange: peerLog(logger), members }),
      snapshotSource: peerSnapshotSource({ addresses, patienceMs, logger, signal, members }),
    },
    servicesOf,
    { security, members, accessControl: access, insecure, limits, ingressSocket: socket?.path },
  );
  const started = await RunningMember.start({ ...member, world, directory: node.directory, peerAddresses });
  around.monitored = {
    peerAddresses,
    get node() {
      return started.node;
    },
    get server() {
      return world.server as CairnServer;
    },
    get certificates() {
      return security?.certificates;
    },
    get tlsWarnings() {
      return security?.warnings;
    },
    get ingressConnections() {
      return around.ingress?.connections;
    },
    get refusedConnections() {
      return security?.refusedConnections;
    },
  };
  return started;
}

/**
 * Hands leadership over if the node leads others: a cluster whose leader just disappears waits for
 * an election timeout. Never rejects; gives up after two election timeouts, or 5 s.
 */
export async function transferLeadershipBeforeStop(
  node: Pick<CairnNode<unknown, StateMachine>, "id" | "raft" | "transferLeadership">,
  { tickMs = 100, electionTicks = 10, logger = silentLogger }: LeadershipTransferOptions,
): Promise<void> {
  const { role, membership } = node.raft;
  if (role !== "leader" || !membership.members.some((each) => each.role === "voter" && each.id !== node.id)) return;
  const ms = Math.min(LEADERSHIP_TRANSFER_TIMEOUTS * electionTicks * tickMs, LEADERSHIP_TRANSFER_MS_MAX);
  try {
    const leader = await node.transferLeadership(undefined, AbortSignal.timeout(ms));
    logger.info({ leader }, "handed leadership over");
  } catch (error) {
    logger.warn({ reason: CairnError.from(error).text }, "stopping without a successor");
  }
}

export interface LeadershipTransferOptions {
  readonly tickMs?: number | undefined;
  readonly electionTicks?: number | undefined;
  readonly logger?: Logger | undefined;
}
