/**
 * The entry `cairn-raft/server`: the gRPC server of a node that runs the key-value store or another
 * state machine, and the key-value store itself.
 */

export { CairnError, type CairnErrorCode, type CairnErrorOptions, errorCodes } from "./base/errors.js";
export { openKeyValueMachine } from "./server/kv/open_machine.js";
export { ownMachineServices } from "./server/machine/services.js";
export type { MachineServices } from "./server/machine_services.js";
export type { ServedNode } from "./server/served_node.js";
export { CairnServer, type OwnServerOptions, type ServerOptions } from "./server/server.js";
export type { Logger } from "./system/logger.js";
