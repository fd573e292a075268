import { CairnError } from "../base/errors.js";
import { Ingress, type IngressOptions } from "../ingress/ingress.js";
import type { StateMachine } from "../machine/state_machine.js";
import { Monitor, type MonitorOptions } from "../monitor/monitor.js";
import type { Monitored } from "../monitor/monitored.js";
import type { CairnNode } from "../node/node.js";
import { grpcTransport } from "../peers/grpc_transport.js";
import type { MachineServices } from "../server/machine_services.js";
import type { CairnServer, ServerOptions } from "../server/server.js";
import { type Logger, silentLogger } from "../system/logger.js";
import { type GrpcWorld, grpcWorld, type MemberNodeOptions } from "./grpc_world.js";
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
  /** Creates the services of the node's state machine. */
  readonly servicesOf: (node: CairnNode<Result, Machine>) => MachineServices;
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
}

export interface MemberMonitor extends Pick<MonitorOptions, "listen" | "hosts"> {
  /** Called when it serves, with its address, host:port with the real port. */
  readonly onServing: (address: string) => void;
}

export interface MemberIngress extends Pick<IngressOptions, "processes" | "listen"> {
  /** Called once, when clients are served at the address, host:port with the real port. */
  readonly onServing: (address: string) => void;
}

/** A member that was started with everything around it. */
export type LaunchedMember<Node extends MemberNode> = Pick<RunningMember<Node>, "node" | "address" | "failed" | "stop">;

/**
 * Starts a member with its node, its server, its connections to the others, its healing from their
 * snapshots, and its ingress processes.
 * @throws CairnError as {@link RunningMember.start} and {@link Ingress.open} do
 */
export async function launch<Result, Machine extends StateMachine<Result>>(
  options: LaunchOptions<Result, Machine>,
): Promise<LaunchedMember<CairnNode<Result, Machine>>> {
  const { ingress, node, monitor } = options;
  const { logger = silentLogger } = node;
  const around: Around[] = [];
  let monitored: Monitored | undefined;
  try {
    if (monitor !== undefined) {
      // Before the member starts: a recovery may take long, and this tells that it is under way.
      const { directory } = node;
      const shown = await Monitor.start({ ...monitor, directory, monitored: () => monitored, logger });
      around.push(shown);
      monitor.onServing(shown.address);
    }
    // Before the member starts: an address that cannot be had must not show only after a recovery.
    const front = ingress && (await Ingress.open({ ...ingress, limits: options.limits, logger }));
    if (front !== undefined) around.push(front);
    const { member, world } = await startMember(options);
    monitored = {
      get node() {
        return member.node;
      },
      get server() {
        return world.server as CairnServer;
      },
    };
    if (front !== undefined) void front.serve(member.address).then(() => ingress?.onServing(front.address));
    return new SurroundedMember(member, around);
  } catch (error) {
    await Promise.all(around.map((each) => each.stop()));
    throw error;
  }
}

/** Something that runs around a member, and stops before it. */
interface Around {
  stop(): Promise<void>;
}

/** A member with its ingress processes and its HTTP port. */
class SurroundedMember<Node extends MemberNode> implements LaunchedMember<Node> {
  constructor(
    private readonly member: RunningMember<Node>,
    private readonly around: readonly Around[],
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

  /** The calls under way at the ingress processes need the node until they end. */
  async stop(): Promise<void> {
    await Promise.all(this.around.map((each) => each.stop()));
    await this.member.stop();
  }
}

async function startMember<Result, Machine extends StateMachine<Result>>(
  options: LaunchOptions<Result, Machine>,
): Promise<StartedMember<CairnNode<Result, Machine>>> {
  const { member, node, servicesOf, healTimeoutMs: patienceMs, signal } = options;
  const { peerAddresses = {}, logger = silentLogger } = node;
  // An address given for a name takes precedence over the founders' list.
  const founders = member.claim.founders?.map(({ name, address }) => [name, address] as const) ?? [];
  const addresses = { ...Object.fromEntries(founders), ...peerAddresses };
  const world = grpcWorld<Result, Machine>(
    {
      ...node,
      transport: grpcTransport({ onChange: peerLog(logger) }),
      snapshotSource: peerSnapshotSource({ addresses, patienceMs, logger, signal }),
    },
    servicesOf,
    options.limits,
  );
  const started = await RunningMember.start({ ...member, world, directory: node.directory, peerAddresses });
  return { member: started, world };
}

interface StartedMember<Node extends MemberNode> {
  readonly member: RunningMember<Node>;
  readonly world: GrpcWorld<Node>;
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
