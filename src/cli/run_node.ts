import type { Claim } from "../daemon/claim.js";
import type { MemberEvent } from "../daemon/events.js";
import { grpcWorld } from "../daemon/grpc_world.js";
import { Member } from "../daemon/member.js";
import { CairnError } from "../errors.js";
import type { Logger } from "../node/logger.js";
import type { KeyValueNode } from "../server/key_value_node.js";
import { openKeyValueMachine } from "../server/open_machine.js";
import { grpcTransport } from "../transport/grpc_transport.js";
import { exitCodes } from "./exit_codes.js";
import { standardErrorLogger } from "./log.js";
import { type EventContext, eventJson, eventText, isTrouble } from "./member_events.js";
import { peerLog } from "./peer_log.js";
import { reportFatal } from "./report.js";
import { untilSignal } from "./signals.js";
import { peerSnapshotSource } from "./snapshot_source.js";
import type { StartSettings } from "./start_settings.js";

/** How many election timeouts a leader that stops takes at most to hand over, and how many milliseconds. */
const HANDOVER_TIMEOUTS = 2;
const HANDOVER_MS_MAX = 5_000;

/** How long a start that a signal is to end may still take, in milliseconds. */
const START_PATIENCE_MS = 2_000;

/** Runs a node until a signal comes, and then ends the process. */
export async function runNode(settings: StartSettings): Promise<void> {
  const logger = standardErrorLogger(settings.logLevel);
  const signal = untilSignal();
  const starting = new AbortController();
  let isStarted = false;
  let giveUp: NodeJS.Timeout | undefined;
  void signal.then(() => {
    starting.abort();
    // A start may wait for long, or be in the midst of much work; ending it is no worse than a crash.
    if (!isStarted) giveUp = setTimeout(() => process.exit(exitCodes.ok), START_PATIENCE_MS);
  });
  const member = await startMember(settings, logger, starting.signal).catch((error: unknown) => {
    if (starting.signal.aborted) process.exit(exitCodes.ok);
    throw error;
  });
  isStarted = true;
  clearTimeout(giveUp);
  logger.load();
  try {
    const reason = await Promise.race([signal, member.failed]);
    // Of a cluster that stops as a whole there is nobody to hand over to.
    if (reason !== "disconnect") await handOver(member, settings, logger);
  } finally {
    await member.stop();
  }
  process.exit(exitCodes.ok);
}

function startMember(settings: StartSettings, logger: Logger, signal: AbortSignal): Promise<Member<KeyValueNode>> {
  const { id, data, listen, advertise, join, json, lostDisk } = settings;
  const context: EventContext = {
    node: id,
    data,
    join,
    isAlone: settings.derivedClusterId === undefined && join === undefined,
  };
  return Member.start({
    world: grpcWorld({
      id,
      directory: data,
      openMachine: openKeyValueMachine,
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
    }),
    directory: data,
    peerAddresses: settings.peerAddresses,
    claim: claimOf(settings),
    listen,
    advertise,
    join,
    replacesLostData: lostDisk === "rejoin",
    onEvent: (event) => tell(event, context, json),
  }).catch(adviseOnListen);
}

function claimOf({ id, members, elections, clusterId, derivedClusterId, join }: StartSettings): Claim {
  const founders =
    derivedClusterId === undefined ? undefined : members.map((each) => ({ name: each.id, address: each.address }));
  if (elections === "manual")
    return { name: id, given: { clusterId: clusterId ?? derivedClusterId, members }, founders };
  return { name: id, cameBy: join === undefined ? "cluster" : "join", founders, alone: members, clusterId };
}

function tell(event: MemberEvent, context: EventContext, json: boolean): void {
  if (json) process.stdout.write(`${eventJson(event, context)}\n`);
  if (isTrouble(event)) process.stderr.write(`cairn: ${eventText(event, context)}\n`);
  else if (!json) process.stdout.write(`${eventText(event, context)}\n`);
}

/** Of --cluster and --peer-addresses; the latter count. */
function knownAddresses({ derivedClusterId, members, peerAddresses }: StartSettings): Record<string, string> {
  const founders = derivedClusterId === undefined ? [] : members.map(({ id, address }) => [id, address] as const);
  return { ...Object.fromEntries(founders), ...peerAddresses };
}

function adviseOnListen(error: unknown): never {
  const { code, text } = CairnError.from(error);
  if (!text.startsWith("cannot listen on")) throw error;
  throw new CairnError(code, `${text}. Give a free host:port of this machine with --listen; port 0 takes any.`, {
    cause: error,
  });
}

/** A cluster whose leader has just gone would wait for an election timeout. */
async function handOver({ node }: Member<KeyValueNode>, settings: StartSettings, logger: Logger): Promise<void> {
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
