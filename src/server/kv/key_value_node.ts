import type { CommandResult } from "../../../gen/cairn/v1/storage_pb.js";
import type { KeyValueMachine } from "../../machine/kv/key_value_machine.js";
import type { CairnNode } from "../../node/node.js";

/** A node whose state machine is the key-value store, as the key-value services use it. */
export type KeyValueNode = CairnNode<CommandResult, KeyValueMachine>;
