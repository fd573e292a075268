/**
 * The entry `cairn-raft/client`: the client of a key-value cluster. It loads neither the storage
 * nor the server, and nothing native, so a bundler can put it into one file.
 */
/// <reference types="node" preserve="true" />

export { CairnError, type CairnErrorCode, type CairnErrorOptions, errorCodes } from "./base/errors.js";
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
export type { Clock } from "./system/clock.js";
