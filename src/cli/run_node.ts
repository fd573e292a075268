import { CairnError } from "../errors.js";
import type { Logger } from "../node/logger.js";
import { CairnNode } from "../node/node.js";
import type { KeyValueNode } from "../server/key_value_node.js";
import { openKeyValueMachine } from "../server/open_machine.js";
import { CairnServer } from "../server/server.js";
import { DataDirectory } from "../storage/data_dir.js";
import { nodeFileSystem } from "../storage/fs.js";
import { grpcTransport } from "../transport/grpc_transport.js";
import { memberList } from "./cluster_ids.js";
import { exitCodes } from "./exit_codes.js";
import { askToJoin, joinCluster } from "./join.js";
import { standardErrorLogger } from "./log.js";
import { comeBack, rejoinCluster } from "./lost_disk.js";
import { peerLog } from "./peer_log.js";
import type { Rejoin } from "./rejoin_note.js";
import { reportFatal } from "./report.js";
import { untilSignal } from "./signals.js";
import { peerSnapshotSource } from "./snapshot_source.js";
import type { StartSettings } from "./start_settings.js";

/** How many election timeouts a leader that stops takes at most to hand over, and how many milliseconds. */
const HANDOVER_TIMEOUTS = 2;
const HANDOVER_MS_MAX = 5_000;

/** Runs a node until a signal comes, and then ends the process. */
export async function runNode(settings: StartSettings): Promise<void> {
  const logger = standardErrorLogger(settings.logLevel);
  const signal = untilSignal();
  const joining = new AbortController();
  void signal.then(() => joining.abort());
  const { node, rejoin } = await startNode(settings, logger, joining.signal).catch((error: unknown) => {
    if (joining.signal.aborted) process.exit(exitCodes.ok);
    throw error;
  });
  try {
    const { listen, peerAddresses } = settings;
    const server = await CairnServer.start(node, { listen, peerAddresses, logger }).catch(adviseOnListen);
    announce(settings, node, server.address);
    const joined =
      rejoin === undefined
        ? join(settings, node, server.address, joining.signal)
        : comeBackAs(rejoin, settings, node, server.address, logger, joining.signal);
    const reason = await signal;
    await joined;
    // Of a cluster that stops as a whole there is nobody to hand over to.
    if (reason !== "disconnect") await handOver(node, settings, logger);
    await server.stop();
  } finally {
    await node.stop();
  }
  process.exit(exitCodes.ok);
}

interface Started {
  readonly node: KeyValueNode;
  /** The node has lost its disk, and is no member any more until it has come back. */
  readonly rejoin: Rejoin | undefined;
}

async function startNode(settings: StartSettings, logger: Logger, signal: AbortSignal): Promise<Started> {
  const { id, data } = settings;
  const isNew = (await DataDirectory.identityAt(nodeFileSystem, data)) === undefined;
  const cluster = settings.join !== undefined && isNew ? await askToJoin(settings.join, id) : undefined;
  const rejoin = await comeBack(settings, isNew, logger, signal);
  const node: KeyValueNode = await CairnNode.start({
    id,
    directory: data,
    openMachine: openKeyValueMachine,
    clusterId: settings.clusterId ?? cluster?.clusterId ?? rejoin?.clusterId,
    newClusterId: settings.derivedClusterId,
    members: cluster?.bootstrapMembers ?? settings.members,
    elections: settings.elections,
    reads: settings.reads,
    tickMs: settings.tickMs,
    electionTicks: settings.electionTicks,
    snapshots: settings.snapshots,
    peerAddresses: settings.peerAddresses,
    snapshotSource: peerSnapshotSource({
      addresses: knownAddresses(settings),
      patienceMs: settings.healTimeoutMs,
      logger,
      signal,
    }),
    trailingLogBytes: settings.trailingLogBytes,
    pinnedLogBytes: settings.pinnedLogBytes,
    snapshotBandwidth: settings.snapshotBandwidth,
    snapshotCompression: settings.snapshotCompression,
    segmentBytes: settings.segmentBytes,
    transport: grpcTransport({ onChange: peerLog(logger) }),
    logger,
    onFatal: (error) => {
      reportFatal(`node ${id} stopped itself`, error);
      process.exit(exitCodes.fatal);
    },
  });
  if (settings.derivedClusterId === undefined || sameMembers(node, settings)) return { node, rejoin };
  await node.stop();
  throw anotherCluster(node, settings);
}

/** Of --cluster and --peer-addresses; the latter count. */
function knownAddresses({ derivedClusterId, members, peerAddresses }: StartSettings): Record<string, string> {
  const founders = derivedClusterId === undefined ? [] : members.map(({ id, address }) => [id, address] as const);
  return { ...Object.fromEntries(founders), ...peerAddresses };
}

function sameMembers(node: KeyValueNode, { members }: StartSettings): boolean {
  return JSON.stringify(memberList(node.bootstrapMembers)) === JSON.stringify(memberList(members));
}

function anotherCluster(node: KeyValueNode, { data, members }: StartSettings): CairnError {
  const found = memberList(node.bootstrapMembers).join(",");
  const text = `${data} holds data of a cluster that was created with ${found}, not with ${memberList(members).join(",")}`;
  const advice =
    "--cluster says who creates a cluster: leave it out, or give that list. Members change with 'cairn member'.";
  return new CairnError("DATA_DIRECTORY", `${text}. ${advice}`);
}

function adviseOnListen(error: unknown): never {
  const { code, text } = CairnError.from(error);
  throw new CairnError(code, `${text}. Give a free host:port of this machine with --listen; port 0 takes any.`, {
    cause: error,
  });
}

function announce({ id, data, json }: StartSettings, { clusterId }: KeyValueNode, address: string): void {
  const line = json
    ? JSON.stringify({ event: "listening", node: id, cluster: clusterId, address, data })
    : `node ${id} of cluster ${clusterId} listens on ${address}, data in ${data}`;
  process.stdout.write(`${line}\n`);
}

/** Has the cluster add this node, if it is to join one and does not know itself to be a member. */
async function join(settings: StartSettings, node: KeyValueNode, listens: string, signal: AbortSignal): Promise<void> {
  const { id, join: endpoints, advertise, json } = settings;
  if (endpoints === undefined || node.raft.membership.members.some((member) => member.id === id)) return;
  const address = advertise ?? listens;
  const complain = (reason: string) =>
    process.stderr.write(`cairn: node ${id} is not a member yet, and goes on trying: ${reason}\n`);
  await joinCluster(endpoints, { id, address }, complain, signal);
  if (signal.aborted) return;
  const line = json
    ? JSON.stringify({ event: "joined", node: id, cluster: node.clusterId, address })
    : `node ${id} is a learner of cluster ${node.clusterId}. To let it vote: cairn member promote ${id} --endpoints ${endpoints.join(",")}`;
  process.stdout.write(`${line}\n`);
}

/** Has the cluster take a node back that has lost its disk. */
async function comeBackAs(
  rejoin: Rejoin,
  settings: StartSettings,
  node: KeyValueNode,
  listens: string,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const { id, advertise, json } = settings;
  const address = advertise ?? listens;
  await rejoinCluster(settings, rejoin, address, logger, signal);
  if (signal.aborted) return;
  const role = rejoin.promote ? "voter" : "learner";
  const line = json
    ? JSON.stringify({ event: "rejoined", node: id, cluster: node.clusterId, address, role })
    : `node ${id} is a ${role} of cluster ${node.clusterId} again`;
  process.stdout.write(`${line}\n`);
}

/** A cluster whose leader has just gone would wait for an election timeout. */
async function handOver(node: KeyValueNode, settings: StartSettings, logger: Logger): Promise<void> {
  const { role, membership } = node.raft;
  if (role !== "leader" || !membership.members.some((each) => each.role === "voter" && each.id !== node.id)) return;
  const ms = Math.min(HANDOVER_TIMEOUTS * settings.electionTicks * settings.tickMs, HANDOVER_MS_MAX);
  try {
    const leader = await node.transferLeadership(undefined, AbortSignal.timeout(ms));
    logger.info({ leader }, "handed leadership over");
  } catch (error) {
    logger.warn({ reason: CairnError.from(error).text }, "stopping without a successor");
  }
}
