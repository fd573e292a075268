/**
 * The entry `cairn-raft/client`: the client of a key-value cluster. It loads neither the storage
 * nor the server, and nothing native, so a bundler can put it into one file.
 */
/// <reference types="node" preserve="true" />

export { CairnError, type CairnErrorCode, type CairnErrorOptions, errorCodes } from "./base/errors.js";
export { CairnClient, type ConditionalDeleteResult, type ObserveOptions, type StatusOptions } from "./client/client.js";
export type { CompareAndSetOptions, CompareAndSetResult, Expected } from "./client/compare_and_set.js";
export type { LeaseHandle } from "./client/leases/lease.js";
export type {
  ClientLeases,
  GrantOptions,
  KeepOptions,
  LeaseInfo,
  LeaseWithKeys,
  TimeToLiveOptions,
} from "./client/leases/leases.js";
export type { ElectedLeader, LeaderHandle } from "./client/locks/election.js";
export type { AcquireOptions, HeadOfQueue, LockHandle, QueueOptions } from "./client/locks/lock.js";
export type { OnceEvent, OnceHandle, OnceOptions, OnceRun, Schedule } from "./client/locks/once.js";
export type {
  CallOptions,
  ClientOptions,
  ConditionalOptions,
  LeaseRef,
  PutOptions,
  RangeOptions,
  ReadOptions,
} from "./client/options.js";
export type { ClientTls, ConnectionOptions } from "./client/security/connection.js";
export type { ClusterMember, NodeStanding, NodeStatus } from "./client/status.js";
export type { AtomicallyOptions, AtomicTx } from "./client/txn/atomically.js";
export { type ComparedKeys, type Condition, compare, type Relation } from "./client/txn/conditions.js";
export {
  type DeleteRangeStep,
  type DeleteRangeStepResult,
  type DeleteStep,
  type DeleteStepResult,
  type ForgottenStepResult,
  type GetStep,
  type GetStepResult,
  op,
  type PutStep,
  type PutStepResult,
  type RangeStep,
  type RangeStepOptions,
  type RangeStepResult,
  type ResultOf,
  type ResultsByType,
  type ResultsOf,
  type StepResult,
  type TxnStep,
} from "./client/txn/steps.js";
export type { Txn, TxnResult } from "./client/txn/txn.js";
export { type Key, KeyValue, type Span, StoredValue, type Value } from "./client/values.js";
export type { KeyWatch } from "./client/watch/key_watch.js";
export type {
  WatchChange,
  WatchDelete,
  WatchEvent,
  WatchExisting,
  WatchListed,
  WatchProgress,
  WatchPut,
  WatchRestarted,
} from "./client/watch/watch_events.js";
export type { WatchKeys } from "./client/watch/watch_keys.js";
export type { WatchOptions } from "./client/watch/watch_options.js";
export type { Clock } from "./system/clock.js";
