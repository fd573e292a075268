/**
 * The entry `cairn-raft`: a member of a cluster with a state machine of your own, and the Raft node
 * below it. Clients import `cairn-raft/client`; the key-value node's server is `cairn-raft/server`.
 * Nothing that these three entries do not export is public.
 */

export { CairnError, type CairnErrorCode, type CairnErrorOptions, errorCodes } from "./base/errors.js";
export { limits } from "./base/limits.js";
export { version } from "./base/version.js";
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
export { InMemoryMachine, type SimpleMachine } from "./machine/in_memory_machine.js";
export type { ApplyResult, StateMachine, StateView } from "./machine/state_machine.js";
export type { HealthVerdict, MemberHealth } from "./node/health/health.js";
export type { LogSync } from "./node/health/write_watch.js";
export { CairnNode } from "./node/node.js";
export type { MissingSnapshot, SnapshotSource, SnapshotTaker } from "./node/open/healing.js";
export type { MachineOpener, NodeOptions } from "./node/options.js";
export type { Committed } from "./node/requests/proposals.js";
export type { SnapshotOutcome, SnapshotRequest } from "./node/snapshots/compaction.js";
export type { SnapshotPolicy } from "./node/snapshots/policy.js";
export type { LastSnapshot, SnapshotReason } from "./node/snapshots/reason.js";
export type { MembershipChange } from "./raft/membership/membership_change.js";
export type { LostData } from "./raft/state.js";
export type { ElectionMode, ReadMode } from "./raft/timing.js";
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
} from "./raft/types.js";
export { inMemory, type OwnMachine, ownMachine, type ResultCodec } from "./server/machine/own_machine.js";
export type { SnapshotInfo, SnapshotOffer } from "./storage/snapshots/snapshot_info.js";
export type { Clock } from "./system/clock.js";
export type { Logger } from "./system/logger.js";
