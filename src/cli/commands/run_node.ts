import { readFileSync } from "node:fs";
import { CairnError } from "../../base/errors.js";
import type { Claim } from "../../daemon/claim.js";
import { type LaunchedMember, launch, transferLeadershipBeforeStop } from "../../daemon/launch.js";
import { keyValueServices } from "../../server/key_value_services.js";
import type { KeyValueNode } from "../../server/kv/key_value_node.js";
import { keyValueMachineOn } from "../../server/kv/open_machine.js";
import type { Logger } from "../../system/logger.js";
import type { StartSettings } from "../options/start_settings.js";
import { exitCodes } from "../output/exit_codes.js";
import { standardErrorLogger } from "../output/log.js";
import { type EventContext, eventJson, eventText, isTrouble, type NodeEvent } from "../output/member_events.js";
import { reportFatal } from "../output/report.js";
import { untilSignal } from "../output/signals.js";

/** Time limit for a start that a signal interrupts, in milliseconds. */
const START_PATIENCE_MS = 2_000;

/** Time after the start, in milliseconds, when the log's writer is loaded: elections come first. */
const LOAD_LOG_MS = 3_000;

/** Runs a node until a signal comes, then ends the process. */
export async function runNode(settings: StartSettings): Promise<void> {
  const logger = standardErrorLogger(settings.logLevel);
  const signal = untilSignal();
  const starting = new AbortController();
  let isStarted = false;
  let giveUp: NodeJS.Timeout | undefined;
  void signal.then(() => {
    starting.abort();
    // A start may wait for a long time, or be busy; ending it is no worse than a crash.
    if (!isStarted) giveUp = setTimeout(() => process.exit(exitCodes.ok), START_PATIENCE_MS);
  });
  const member = await startMember(settings, logger, starting.signal).catch((error: unknown) => {
    if (starting.signal.aborted) process.exit(exitCodes.ok);
    throw error;
  });
  isStarted = true;
  clearTimeout(giveUp);
  const loading = setTimeout(() => logger.load(), LOAD_LOG_MS);
  try {
    const reason = await Promise.race([signal, member.failed]);
    // On "disconnect" the whole cluster stops, so no member can take over.
    if (reason !== "disconnect") await transferLeadershipBeforeStop(member.node, { ...settings, logger });
  } finally {
    clearTimeout(loading);
    await member.stop();
  }
  process.exit(exitCodes.ok);
}

function startMember(
  settings: StartSettings,
  logger: Logger,
  signal: AbortSignal,
): Promise<LaunchedMember<KeyValueNode>> {
  const { id, data, listen, advertise, join, json, lostDisk } = settings;
  const context: EventContext = {
    node: id,
    data,
    join,
    isAlone: settings.derivedClusterId === undefined && join === undefined,
  };
  return launch({
    node: {
      id,
      directory: data,
      openMachine: keyValueMachineOn(settings.state),
      elections: settings.elections,
      reads: settings.reads,
      tickMs: settings.tickMs,
      electionTicks: settings.electionTicks,
      snapshots: settings.snapshots,
      peerAddresses: settings.peerAddresses,
      trailingLogBytes: settings.trailingLogBytes,
      pinnedLogBytes: settings.pinnedLogBytes,
      snapshotBandwidth: settings.snapshotBandwidth,
      snapshotCompression: settings.snapshotCompression,
      segmentBytes: settings.segmentBytes,
      logger,
      onFatal: (error) => {
        reportFatal(`node ${id} stopped itself`, error);
        process.exit(exitCodes.fatal);
      },
    },
    member: {
      claim: claimOf(settings),
      listen,
      advertise,
      join,
      replacesLostData: lostDisk === "rejoin",
      onEvent: (event) => tell(event, context, json),
    },
    servicesOf: (node, members) => keyValueServices(node, members),
    healTimeoutMs: settings.healTimeoutMs,
    limits: settings.limits,
    signal,
    monitor: settings.monitor && {
      ...settings.monitor,
      onServing: (url) => tell({ kind: "http", url }, context, json),
    },
    tls: settings.tls,
    insecure: settings.insecure,
    access: settings.access,
    peerToken: settings.peerTokenFile && tokenIn(settings.peerTokenFile),
    ingress: settings.ingress && {
      ...settings.ingress,
      onServing: (address) =>
        tell({ kind: "ingress", address, processes: settings.ingress?.processes ?? 0 }, context, json),
    },
  }).catch(adviseOnListen);
}

/** @throws CairnError INVALID_ARGUMENT when the file cannot be read */
function tokenIn(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw new CairnError("INVALID_ARGUMENT", `token file ${path}: ${(cause as Error).message}`, { cause });
  }
}

function claimOf({ id, members, elections, clusterId, derivedClusterId, join }: StartSettings): Claim {
  const founders =
    derivedClusterId === undefined ? undefined : members.map((each) => ({ name: each.id, address: each.address }));
  if (elections === "manual")
    return { name: id, given: { clusterId: clusterId ?? derivedClusterId, members }, founders };
  return { name: id, cameBy: join === undefined ? "cluster" : "join", founders, alone: members, clusterId };
}

function tell(event: NodeEvent, context: EventContext, json: boolean): void {
  if (json) process.stdout.write(`${eventJson(event, context)}\n`);
  if (isTrouble(event)) process.stderr.write(`cairn: ${eventText(event, context)}\n`);
  else if (!json) process.stdout.write(`${eventText(event, context)}\n`);
}

function adviseOnListen(error: unknown): never {
  const { code, text } = CairnError.from(error);
  const flag = text.startsWith("cannot listen on")
    ? "--listen"
    : text.startsWith("cannot take client connections on")
      ? "--ingress-listen"
      : text.startsWith("cannot serve HTTP on")
        ? "--http"
        : undefined;
  if (flag === undefined) throw error;
  throw new CairnError(code, `${text}. Give a free host:port of this machine with ${flag}; port 0 takes any.`, {
    cause: error,
  });
}
