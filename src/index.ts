/**
 * Cairn as a library: a member of a cluster with a state machine of your own, the Raft node below it, the client of a key-value cluster, and
 * the key-value node with its gRPC server.
 * Nothing that is not exported here is public.
 */

export {
  CairnClient,
  type CompareAndSetOptions,
  type CompareAndSetResult,
  type Expected,
  type RangeOptions,
  type ReadOptions,
  type StatusOptions,
} from "./client/client.js";
export type { CallOptions, ClientOptions } from "./client/options.js";
export type { ClusterMember, NodeStanding, NodeStatus } from "./client/status.js";
export { type Key, KeyValue, StoredValue, type Value } from "./client/values.js";
export type { Clock } from "./clock.js";
export { limits } from "./core/limits.js";
export type { MembershipChange } from "./core/membership_change.js";
export type { LostData } from "./core/state.js";
export type { ElectionMode, ReadMode } from "./core/timing.js";
export type {
  Entry,
  EntryType,
  HardState,
  IndexedMembership,
  LogPosition,
  Member,
  MemberRole,
  Membership,
  SnapshotMeta,
} from "./core/types.js";
export { CairnMember } from "./daemon/application/cairn_member.js";
export type {
  ClusterEvent,
  LagEvent,
  LeaderEvent,
  MembershipEvent,
  SnapshotEvent,
} from "./daemon/application/cluster_events.js";
export type { ProposeOptions, QueryOptions } from "./daemon/application/member_calls.js";
export type { CairnMemberOptions } from "./daemon/application/member_options.js";
export type { MemberEvent } from "./daemon/events.js";
export { CairnError, type CairnErrorCode, type CairnErrorOptions, errorCodes } from "./errors.js";
export { InMemoryMachine, type SimpleMachine } from "./machine/in_memory_machine.js";
export type { ApplyResult, StateMachine, StateView } from "./machine/state_machine.js";
export type { SnapshotPolicy } from "./node/auto_snapshot.js";
export type { SnapshotOutcome, SnapshotRequest } from "./node/compaction.js";
export type { MissingSnapshot, SnapshotSource, SnapshotTaker } from "./node/healing.js";
export type { HealthVerdict, MemberHealth } from "./node/health.js";
export type { Logger } from "./node/logger.js";
export { CairnNode } from "./node/node.js";
export type { MachineOpener, NodeOptions } from "./node/options.js";
export type { Committed } from "./node/proposals.js";
export type { LastSnapshot, SnapshotReason } from "./node/snapshot_reason.js";
export type { LogSync } from "./node/write_watch.js";
export type { MachineServices } from "./server/machine_services.js";
export { openKeyValueMachine } from "./server/open_machine.js";
export { inMemory, type OwnMachine, ownMachine, type ResultCodec } from "./server/own_machine.js";
export { ownMachineServices } from "./server/own_machine_services.js";
export type { ServedNode } from "./server/served_node.js";
export { CairnServer, type OwnServerOptions, type ServerOptions } from "./server/server.js";
export type { SnapshotInfo, SnapshotOffer } from "./storage/snapshots/snapshot_info.js";
export { version } from "./version.js";
