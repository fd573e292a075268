import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type AdminService,
  ElectionMode,
  type GetLogInfoResponseSchema,
  type GetStatusResponseSchema,
  NodeRole,
  type TakeSnapshotRequest,
} from "../../gen/cairn/v1/admin_pb.js";
import { limits } from "../core/limits.js";
import type { Role } from "../core/state.js";
import { CairnError } from "../errors.js";
import type { SnapshotRequest } from "../node/compaction.js";
import { membershipToMessage } from "../storage/membership_message.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";
import type { ServiceImplementation } from "../transport/bridge_server.js";
import { version } from "../version.js";
import { snapshotInfoToMessage, toNumber } from "./convert.js";
import type { KeyValueNode } from "./key_value_node.js";

/** The operators' service of a node. */
export function adminService(node: KeyValueNode): ServiceImplementation<typeof AdminService> {
  return {
    async getStatus() {
      return statusOf(node);
    },

    async getLogInfo({ minAppliedIndex }, { signal }) {
      await node.waitApplied(toNumber(minAppliedIndex, "min_applied_index"), signal);
      return logInfoOf(node);
    },

    async takeSnapshot(request) {
      const outcome = await node.takeSnapshot(toSnapshotRequest(request));
      return {
        taken: outcome.taken,
        logEntriesTrimmed: BigInt(outcome.logEntriesTrimmed),
        ...(outcome.snapshot !== undefined && { snapshot: snapshotInfoToMessage(outcome.snapshot) }),
      };
    },

    async listSnapshots() {
      return { snapshots: node.snapshots.list().map(snapshotInfoToMessage) };
    },

    async *downloadSnapshot({ index }) {
      const info = findSnapshot(node, toNumber(index, "index"));
      // A slow reader must not lose the file to retention between the two.
      const unpin = node.snapshots.pin(info);
      try {
        yield { info: snapshotInfoToMessage(info) };
        for await (const data of node.snapshots.readFile(info, 0, limits.snapshotChunkBytes)) yield { data };
      } finally {
        unpin();
      }
    },

    async campaign(_request, { signal }) {
      return { term: BigInt(await node.campaign(signal)) };
    },
  };
}

const roles: Readonly<Record<Role, NodeRole>> = {
  follower: NodeRole.FOLLOWER,
  "pre-candidate": NodeRole.PRE_CANDIDATE,
  candidate: NodeRole.CANDIDATE,
  leader: NodeRole.LEADER,
};

function statusOf(node: KeyValueNode): MessageInitShape<typeof GetStatusResponseSchema> {
  const { raft, recovery } = node;
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
    electionMode: node.elections === "manual" ? ElectionMode.MANUAL : ElectionMode.AUTOMATIC,
    diskFull: node.isDiskFull,
    recovery: {
      snapshotIndex: BigInt(recovery.snapshotIndex),
      stateRebuilt: recovery.stateRebuilt,
      replayedEntries: BigInt(recovery.replayedEntries),
      tornBytes: BigInt(recovery.tornBytes),
      durationMs: BigInt(Math.round(recovery.durationMs)),
    },
  };
}

function logInfoOf(node: KeyValueNode): MessageInitShape<typeof GetLogInfoResponseSchema> {
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

function toSnapshotRequest({ trigger, keepLogBytes }: TakeSnapshotRequest): SnapshotRequest {
  return {
    thresholdEntries: trigger.case === "thresholdEntries" ? toNumber(trigger.value, "threshold_entries") : undefined,
    index: trigger.case === "index" ? toNumber(trigger.value, "index") : undefined,
    keepLogBytes: keepLogBytes === undefined ? undefined : toNumber(keepLogBytes, "keep_log_bytes"),
  };
}

function findSnapshot(node: KeyValueNode, index: number): SnapshotInfo {
  const all = node.snapshots.list();
  const found = index === 0 ? all[0] : all.find((info) => info.index === index);
  if (found !== undefined) return found;
  const there = all.length === 0 ? "there is none" : `there are ${all.map((info) => info.index).join(", ")}`;
  throw new CairnError(
    "NOT_FOUND",
    index === 0 ? "there is no snapshot" : `there is no snapshot at index ${index}: ${there}`,
  );
}
