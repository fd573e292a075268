import { ElectionMode, type GetStatusResponse, NodeRole } from "../../gen/cairn/v1/admin_pb.js";
import { MemberRole, type Membership } from "../../gen/cairn/v1/storage_pb.js";

/** A member of the cluster, as a node knows it. */
export interface ClusterMember {
  readonly id: string;
  /** host:port at which the other members reach it; empty for a node that runs alone. */
  readonly address: string;
  /** A learner gets the log, and does not vote. */
  readonly role: "voter" | "learner";
}

/**
 * A node's Raft role. A `pre-candidate` asks whether it would be elected before it starts a new
 * term.
 */
export type NodeStanding = "follower" | "pre-candidate" | "candidate" | "leader";

/** A node's identity, role and log positions. */
export interface NodeStatus {
  readonly clusterId: string;
  readonly nodeId: string;
  /** Version of Cairn that the node runs. */
  readonly version: string;
  readonly role: NodeStanding;
  readonly term: number;
  /** The leader as this node knows it; undefined when it knows none. */
  readonly leaderId: string | undefined;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly lastLogIndex: number;
  /** Index of the newest snapshot; 0 without one. */
  readonly snapshotIndex: number;
  readonly members: readonly ClusterMember[];
  readonly elections: "automatic" | "manual";
  /** The node refuses writes because its disk is full. */
  readonly isDiskFull: boolean;
}

const roles: Readonly<Record<NodeRole, NodeStanding>> = {
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
    members: membersOf(message.membership),
    elections: message.electionMode === ElectionMode.MANUAL ? "manual" : "automatic",
    isDiskFull: message.diskFull,
  };
}

/** Returns the members that a message names. */
export function membersOf(membership: Membership | undefined): ClusterMember[] {
  return (membership?.members ?? []).map(({ id, address, role }) => ({
    id,
    address,
    role: role === MemberRole.LEARNER ? "learner" : "voter",
  }));
}
