import { ElectionMode, type GetStatusResponse, NodeRole } from "../../gen/cairn/v1/admin_pb.js";
import { MemberRole } from "../../gen/cairn/v1/storage_pb.js";
import type { Role } from "../core/state.js";
import type { ElectionMode as Elections } from "../core/timing.js";
import type { Member } from "../core/types.js";

/** What a node is and where it stands. */
export interface NodeStatus {
  readonly clusterId: string;
  readonly nodeId: string;
  /** Version of Cairn. */
  readonly version: string;
  readonly role: Role;
  readonly term: number;
  /** The leader as this node knows it; undefined when it knows none. */
  readonly leaderId: string | undefined;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly lastLogIndex: number;
  /** Index of the newest snapshot; 0 without one. */
  readonly snapshotIndex: number;
  readonly members: readonly Member[];
  readonly elections: Elections;
  /** Writes are refused because the disk is full. */
  readonly isDiskFull: boolean;
}

const roles: Readonly<Record<NodeRole, Role>> = {
  [NodeRole.UNSPECIFIED]: "follower",
  [NodeRole.FOLLOWER]: "follower",
  [NodeRole.CANDIDATE]: "candidate",
  [NodeRole.LEADER]: "leader",
  [NodeRole.PRE_CANDIDATE]: "pre-candidate",
};

export function statusOf(message: GetStatusResponse): NodeStatus {
  return {
    clusterId: message.clusterId,
    nodeId: message.nodeId,
    version: message.version,
    role: roles[message.role] ?? "follower",
    term: Number(message.term),
    leaderId: message.leaderId || undefined,
    commitIndex: Number(message.commitIndex),
    appliedIndex: Number(message.appliedIndex),
    lastLogIndex: Number(message.lastLogIndex),
    snapshotIndex: Number(message.snapshotIndex),
    members: (message.membership?.members ?? []).map(({ id, address, role }) => ({
      id,
      address,
      role: role === MemberRole.LEARNER ? "learner" : "voter",
    })),
    elections: message.electionMode === ElectionMode.MANUAL ? "manual" : "automatic",
    isDiskFull: message.diskFull,
  };
}
