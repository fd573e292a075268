import type { KeyValueMachine } from "../../machine/kv/key_value_machine.js";
import { checkKeyValuePayload } from "../../machine/kv/payload_check.js";
import { LmdbMachine } from "../../machine/lmdb_machine.js";
import { openStoreMachine } from "../../machine/store/open_machine.js";
import type { MachineOpener } from "../../node/options.js";
import type { StateKind } from "./state_kind.js";

type StatePlace = Parameters<MachineOpener<KeyValueMachine>>[0];

/** Opens the key-value machine on LMDB for a node, and checks its payloads. */
export const openKeyValueMachine: MachineOpener<KeyValueMachine> = Object.assign(
  ({ directory, trustDisk }: StatePlace) => LmdbMachine.open({ directory, trust: trustDisk ? "auto" : "rebuild" }),
  { checkPayload: checkKeyValuePayload },
);

/** Opens the key-value machine on Cairn's own store for a node, and checks its payloads. */
export const openKeyValueStore: MachineOpener<KeyValueMachine> = Object.assign(
  (place: StatePlace) => openStoreMachine(place),
  { checkPayload: checkKeyValuePayload },
);

/**
 * Returns what opens the key-value machine with a state of this kind. A directory with a state of
 * the other kind is no hindrance: the state is rebuilt from snapshot and log.
 */
export function keyValueMachineOn(kind: StateKind): MachineOpener<KeyValueMachine> {
  return kind === "store" ? openKeyValueStore : openKeyValueMachine;
}
