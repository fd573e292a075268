/**
 * The entry `cairn-raft/server`: the gRPC server of a node that runs the key-value store or another
 * state machine, and the key-value store itself.
 */
/// <reference types="node" preserve="true" />

export type { CommandOutcome, CommandResult, LeaseRecord, RangeRecord } from "../gen/cairn/v1/storage_pb.js";
export { CairnError, type CairnErrorCode, type CairnErrorOptions, errorCodes } from "./base/errors.js";
export type {
  KeyRange,
  KeyRangeOptions,
  KeyValueMachine,
  StoreUpkeep,
} from "./machine/kv/key_value_machine.js";
export type { StoredLease } from "./machine/kv/leases/lease_store.js";
export type { KeyEntry, KeyRecord } from "./machine/kv/record_store.js";
export type { KeyValueNode } from "./server/kv/key_value_node.js";
export { openKeyValueMachine, openKeyValueStore } from "./server/kv/open_machine.js";
export { ownMachineServices } from "./server/machine/services.js";
export type { MachineServices } from "./server/machine_services.js";
export {
  type CertificateInfo,
  type CertificateUse,
  type MemberCredentials,
  type NodeName,
  type NodeTls,
  type NodeTlsFiles,
  openNodeTls,
} from "./server/node_security.js";
export { CairnServer, type FloodLimits, type OwnServerOptions, type ServerOptions } from "./server/server.js";
export type { Logger } from "./system/logger.js";
