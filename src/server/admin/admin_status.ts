import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  CertificateUse as CertificateUseMessage,
  ElectionMode,
  type GetLogInfoResponseSchema,
  type GetStatusResponseSchema,
  HealthVerdict,
  type LastSnapshotSchema,
  type NodeProcessSchema,
  NodeRole,
  ProgressState,
  SnapshotReason,
} from "../../../gen/cairn/v1/admin_pb.js";
import { incarnationBytes } from "../../base/ids.js";
import { limits } from "../../base/limits.js";
import { version } from "../../base/version.js";
import { membershipToMessage } from "../../encoding/membership.js";
import type { HealthVerdict as Verdict } from "../../node/health/health.js";
import type { LastSnapshot, SnapshotReason as Reason } from "../../node/snapshots/reason.js";
import { PROTOCOL_VERSION } from "../../peers/protocol.js";
import type { ProgressInfo } from "../../raft/raft.js";
import type { Role } from "../../raft/state.js";
import type { NodeTls } from "../../rpc/security/node_tls.js";
import type { CertificateUse } from "../../rpc/security/tls_material.js";
import { processLimits } from "../../system/process_limits.js";
import type { ServedNode } from "../served_node.js";

// Translates a node's status and log extent to the messages of the operators' service.

const roles: Readonly<Record<Role, NodeRole>> = {
  follower: NodeRole.FOLLOWER,
  "pre-candidate": NodeRole.PRE_CANDIDATE,
  candidate: NodeRole.CANDIDATE,
  leader: NodeRole.LEADER,
};

const progressStates: Readonly<Record<ProgressInfo["state"], ProgressState>> = {
  probe: ProgressState.PROBE,
  replicate: ProgressState.REPLICATE,
  snapshot: ProgressState.SNAPSHOT,
  lost: ProgressState.LOST,
};

const reasons: Readonly<Record<Reason, SnapshotReason>> = {
  requested: SnapshotReason.REQUESTED,
  entries: SnapshotReason.ENTRIES,
  log_bytes: SnapshotReason.LOG_BYTES,
  log_ratio: SnapshotReason.LOG_RATIO,
  age: SnapshotReason.AGE,
  missing: SnapshotReason.MISSING,
  follower: SnapshotReason.FOLLOWER,
  installed: SnapshotReason.INSTALLED,
};

const verdicts: Readonly<Record<Verdict, HealthVerdict>> = {
  lost_data: HealthVerdict.LOST_DATA,
  not_a_member: HealthVerdict.NOT_A_MEMBER,
  healthy: HealthVerdict.HEALTHY,
  slow_disk: HealthVerdict.SLOW_DISK,
  stuck_disk: HealthVerdict.STUCK_DISK,
  disk_full: HealthVerdict.DISK_FULL,
  out_of_descriptors: HealthVerdict.OUT_OF_DESCRIPTORS,
  late_event_loop: HealthVerdict.LATE_EVENT_LOOP,
  slow_answers: HealthVerdict.SLOW_ANSWERS,
  silent: HealthVerdict.SILENT,
  falling_behind: HealthVerdict.FALLING_BEHIND,
  cannot_catch_up: HealthVerdict.CANNOT_CATCH_UP,
};

const uses: Readonly<Record<CertificateUse, CertificateUseMessage>> = {
  server: CertificateUseMessage.SERVER,
  peer: CertificateUseMessage.PEER,
  client_ca: CertificateUseMessage.CLIENT_CA,
  peer_ca: CertificateUseMessage.PEER_CA,
};

/** Returns the status of a node, for GetStatus. `further`: warnings beyond the node's own. */
export function statusToMessage(
  node: ServedNode,
  further: readonly string[] = [],
  security?: Pick<NodeTls, "certificates" | "warnings">,
): MessageInitShape<typeof GetStatusResponseSchema> {
  const { raft, recovery } = node;
  const { last, warnings } = node.snapshotting;
  const { logSync, health } = node.fitness;
  const { newestRules = 0, rulesInForce = 0 } = node.machine;
  return {
    clusterId: node.clusterId,
    nodeId: node.id,
    version,
    role: roles[raft.role],
    term: BigInt(raft.term),
    leaderId: raft.leader ?? "",
    commitIndex: BigInt(raft.log.commit),
    appliedIndex: BigInt(node.machine.appliedIndex),
    lastLogIndex: BigInt(raft.log.last.index),
    snapshotIndex: BigInt(raft.snapshot?.index ?? 0),
    membership: membershipToMessage(raft.membership.members),
    membershipIndex: BigInt(raft.membership.index),
    bootstrapMembers: membershipToMessage(node.identity.members),
    progress: raft.progress.map(({ id, match, next, state, isActive }) => ({
      nodeId: id,
      matchIndex: BigInt(match),
      nextIndex: BigInt(next),
      state: progressStates[state],
      active: isActive,
    })),
    electionMode: node.elections === "manual" ? ElectionMode.MANUAL : ElectionMode.AUTOMATIC,
    diskFull: node.isDiskFull,
    recovery: {
      snapshotIndex: BigInt(recovery.snapshotIndex),
      stateRebuilt: recovery.stateRebuilt,
      replayedEntries: BigInt(recovery.replayedEntries),
      tornBytes: BigInt(recovery.tornBytes),
      durationMs: BigInt(Math.round(recovery.durationMs)),
    },
    ...(last !== undefined && { lastSnapshot: lastSnapshotToMessage(last) }),
    warnings: [
      ...node.fitness.warnings,
      ...warnings,
      ...node.protocol.warnings,
      ...(security?.warnings ?? []),
      ...further,
    ],
    incarnation: incarnationBytes(node.incarnation),
    logSync,
    process: processToMessage(),
    versions: { protocol: PROTOCOL_VERSION, newestRules, rulesInForce },
    health: health.map(({ id, verdict, reason }) => ({ nodeId: id, verdict: verdicts[verdict], reason })),
    certificates: (security?.certificates ?? []).map(({ use, subject, file, names, startsMs, expiresMs }) => ({
      use: uses[use],
      subject,
      file,
      names: [...names],
      startsUnixMs: BigInt(startsMs),
      expiresUnixMs: BigInt(expiresMs),
    })),
  };
}

function processToMessage(): MessageInitShape<typeof NodeProcessSchema> {
  const { memoryLimitBytes, openFilesLimit } = processLimits();
  return {
    pid: BigInt(process.pid),
    unixMs: BigInt(Date.now()),
    upMs: performance.now(),
    memoryBytes: BigInt(process.memoryUsage.rss()),
    ...(memoryLimitBytes !== undefined && { memoryLimitBytes: BigInt(memoryLimitBytes) }),
    ...(openFilesLimit !== undefined && { openFilesLimit: BigInt(openFilesLimit) }),
  };
}

function lastSnapshotToMessage(last: LastSnapshot): MessageInitShape<typeof LastSnapshotSchema> {
  return {
    index: BigInt(last.index),
    reason: reasons[last.reason],
    finishedUnixMs: BigInt(Math.round(last.finishedUnixMs)),
    durationMs: BigInt(Math.round(last.durationMs)),
    fileBytes: BigInt(last.fileBytes),
  };
}

/** Returns the extent of a node's log, for GetLogInfo. */
export function logInfoOf(node: ServedNode): MessageInitShape<typeof GetLogInfoResponseSchema> {
  const { log, snapshot, term } = node.raft;
  const { segments, diskBytes } = node.logStats;
  return {
    firstIndex: BigInt(log.boundary.index + 1),
    lastIndex: BigInt(log.last.index),
    lastTerm: BigInt(log.last.term),
    snapshotIndex: BigInt(snapshot?.index ?? 0),
    snapshotTerm: BigInt(snapshot?.term ?? 0),
    totalEntries: BigInt(log.last.index - (snapshot?.index ?? 0)),
    commitIndex: BigInt(log.commit),
    appliedIndex: BigInt(node.machine.appliedIndex),
    segments,
    diskBytes: BigInt(diskBytes),
    term: BigInt(term),
    terms: log.ranges
      .slice(-limits.termRanges)
      .map((range) => ({ firstIndex: BigInt(range.firstIndex), term: BigInt(range.term) })),
  };
}
