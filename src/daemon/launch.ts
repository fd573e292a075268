import { CairnError } from "../base/errors.js";
import { Ingress, type IngressOptions } from "../ingress/ingress.js";
import { PrivateSocket } from "../ingress/private_socket.js";
import type { StateMachine } from "../machine/state_machine.js";
import type { CairnNode } from "../node/node.js";
import { grpcTransport } from "../peers/grpc_transport.js";
import type { NodeTls } from "../rpc/security/node_tls.js";
import type { NodeTlsFiles } from "../rpc/security/tls_material.js";
import { openNodeTls } from "../server/node_security.js";
import { type Logger, silentLogger } from "../system/logger.js";
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
  /** Processes that take the connections of clients. */
  readonly ingress?: MemberIngress | undefined;
  /** Certificates for clients and for the connections between members. */
  readonly tls?: NodeTlsFiles | undefined;
  /** Allows addresses other than loopback addresses without TLS. */
  readonly insecure?: boolean | undefined;
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
}

/**
 * Starts a member with its node, its server, its connections to the others, its healing from their
 * snapshots, and its ingress processes.
 * @throws CairnError as {@link openNodeTls}, {@link RunningMember.start} and {@link Ingress.open}
 */
export async function launch<Result, Machine extends StateMachine<Result>>(
  options: LaunchOptions<Result, Machine>,
): Promise<LaunchedMember<CairnNode<Result, Machine>>> {
  const { tls, ingress, insecure, node } = options;
  checkAuthorities(options);
  const around = new Around();
  try {
    around.security = tls && (await openNodeTls(tls, node));
    if (ingress === undefined) return new WholeMember(await startMember(options, around), around);
    // Before the member starts: an address that cannot be had must not show only after a recovery.
    const front = await Ingress.open({ ...ingress, tls, insecure, logger: node.logger });
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
  ingress: Ingress | undefined;
  socket: PrivateSocket | undefined;

  /** Ends the parts that need the member until their calls have ended. */
  async stop(): Promise<void> {
    await this.ingress?.stop();
  }

  /** Ends the parts that the member needs until it has stopped. */
  async end(): Promise<void> {
    await this.socket?.remove();
    this.security?.close();
  }
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
  const hasPeers = join !== undefined || (claim.founders?.length ?? 0) > 1;
  if (tls === undefined || tls.peerCa !== undefined || !hasPeers) return;
  const text = `${claim.name} has a certificate, but no authority by which it could know the other members`;
  throw new CairnError("INVALID_ARGUMENT", `${text}: give the file of their authority (--tls-peer-ca)`);
}

function startMember<Result, Machine extends StateMachine<Result>>(
  options: LaunchOptions<Result, Machine>,
  { security, socket }: Around,
): Promise<RunningMember<CairnNode<Result, Machine>>> {
  const { member, node, servicesOf, healTimeoutMs: patienceMs, signal, insecure } = options;
  const { peerAddresses = {}, logger = silentLogger } = node;
  // An address given for a name takes precedence over the founders' list.
  const founders = member.claim.founders?.map(({ name, address }) => [name, address] as const) ?? [];
  const addresses = { ...Object.fromEntries(founders), ...peerAddresses };
  const world = grpcWorld<Result, Machine>(
    {
      ...node,
      transport: grpcTransport({ onChange: peerLog(logger), members: security }),
      snapshotSource: peerSnapshotSource({ addresses, patienceMs, logger, signal, members: security }),
    },
    servicesOf,
    { security, insecure, ingressSocket: socket?.path },
  );
  return RunningMember.start({ ...member, world, directory: node.directory, peerAddresses });
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
