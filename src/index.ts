/**
 * The entry `cairn-raft`: a member of a cluster with a state machine of your own, the Raft node
 * below it, and the client. A program that is only a client imports `cairn-raft/client`, which
 * loads neither storage nor server; the key-value node's server is `cairn-raft/server`. Nothing
 * that these three entries do not export is public.
 */
/// <reference types="node" preserve="true" />

export type { CancelSignal } from "./base/cancel_signal.js";
export { limits } from "./base/limits.js";
export { version } from "./base/version.js";
export * from "./client.js";
export { CairnMember } from "./daemon/application/cairn_member.js";
export type {
  ClusterEvent,
  LagEvent,
  LeaderEvent,
  MembershipEvent,
  SnapshotEvent,
} from "./daemon/application/cluster_events.js";
export type { ProposeOptions, QueryOptions } from "./daemon/application/member_calls.js";
export type { CairnMemberOptions, PassedOption } from "./daemon/application/member_options.js";
export type { MemberEvent } from "./daemon/events.js";
export type { SnapshotMeasure } from "./encoding/snapshot_file.js";
export type { SnapshotHeader } from "./encoding/snapshot_header.js";
export { InMemoryMachine, type SimpleMachine } from "./machine/in_memory_machine.js";
export type { ApplyResult, StateMachine, StateView } from "./machine/state_machine.js";
export { type FitnessView, type HealthVerdict, healthVerdicts, type MemberHealth } from "./node/health/health.js";
export type { LogSync } from "./node/health/write_watch.js";
export { CairnNode } from "./node/node.js";
export type { MissingSnapshot, SnapshotSource, SnapshotTaker } from "./node/open/healing.js";
export type { RecoveryReport } from "./node/open/recovery.js";
export type { MachineOpener, NodeOptions } from "./node/options.js";
export type { Committed } from "./node/requests/proposals.js";
export type { SnapshotOutcome, SnapshotRequest } from "./node/snapshots/compaction.js";
export type { LastSnapshot, SnapshotReason, SnapshotTrigger, SnapshottingView } from "./node/snapshots/reason.js";
export type { SnapshotPolicy } from "./node/snapshots/scheduler.js";
export type { OutgoingTransfer } from "./node/snapshots/send_queue.js";
export type { LogView, RaftView } from "./node/views.js";
export type {
  InstallChoice,
  InstallMessage,
  InstallOffer,
  InstallReply,
  OfferRefusal,
  SnapshotCompression,
} from "./peers/install/install_messages.js";
export type { InstallStream, Peer, Transport, TransportEvents, TransportFactory } from "./peers/transport.js";
export type { LeaderLimits } from "./raft/leader/leader.js";
export type { ProgressInfo } from "./raft/leader/progress.js";
export type { FlowLimits } from "./raft/leader/replication.js";
export type { LogLimits } from "./raft/log.js";
export type { CameBy, MembershipChange } from "./raft/membership/membership_change.js";
export type {
  Addressed,
  AppendAccepted,
  AppendEntries,
  AppendEntriesAnswer,
  AppendRejected,
  AppendRejection,
  AppendResult,
  InstallSnapshot,
  LogConflict,
  PeerAnswer,
  PeerAppend,
  PeerAppendAnswer,
  PeerRequest,
  PeerTimeoutNowAnswer,
  PeerVoteAnswer,
  Request as RaftRequest,
  RequestBase,
  RequestVote,
  RequestVoteAnswer,
  ResponseBase,
  TimeoutNow,
  TimeoutNowAnswer,
  Unaddressed,
} from "./raft/messages.js";
export type { RaftLimits } from "./raft/raft.js";
export type { LostData, Role } from "./raft/state.js";
export type { TermRange } from "./raft/term_ranges.js";
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
export type { NodeTlsFiles } from "./server/node_security.js";
export type { FloodLimits } from "./server/server.js";
export type { PayloadCheck, PayloadChecker } from "./storage/snapshots/payload_check.js";
export type { SnapshotInfo, SnapshotOffer } from "./storage/snapshots/snapshot_info.js";
export { type File as OpenFile, type FileSystem, nodeFileSystem } from "./system/fs.js";
export type { Holder, Liveness, Shown } from "./system/liveness.js";
export { type LogFacts, type LogField, logFields } from "./system/log_fields.js";
export { limitRepeats, type RepeatLimitedLogger } from "./system/log_repeats.js";
export type { Logger } from "./system/logger.js";
