import type { KeyValueMachine } from "../machine/key_value_machine.js";
import { LmdbMachine } from "../machine/lmdb_machine.js";
import type { MachineOpener } from "../node/options.js";

/** Opens the key-value machine for a node. */
export const openKeyValueMachine: MachineOpener<KeyValueMachine> = ({ directory, trustDisk }) =>
  LmdbMachine.open({ directory, trust: trustDisk ? "auto" : "rebuild" });
