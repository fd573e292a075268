import type { KeyValueMachine } from "../../machine/kv/key_value_machine.js";
import { checkKeyValuePayload } from "../../machine/kv/payload_check.js";
import { LmdbMachine } from "../../machine/lmdb_machine.js";
import type { MachineOpener } from "../../node/options.js";

/** Opens the key-value machine for a node, and checks its payloads. */
export const openKeyValueMachine: MachineOpener<KeyValueMachine> = Object.assign(
  ({ directory, trustDisk }: { readonly directory: string; readonly trustDisk: boolean }) =>
    LmdbMachine.open({ directory, trust: trustDisk ? "auto" : "rebuild" }),
  { checkPayload: checkKeyValuePayload },
);
