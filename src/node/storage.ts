import type { StateMachine } from "../machine/state_machine.js";
import type { DataDirectory } from "../storage/data_dir.js";
import type { SnapshotStore } from "../storage/snapshots/snapshot_store.js";
import type { WriteAheadLog } from "../storage/wal/wal.js";

/** All that a node has on disk. */
export interface NodeStorage<Machine extends StateMachine> {
  readonly directory: DataDirectory;
  readonly log: WriteAheadLog;
  readonly snapshots: SnapshotStore;
  readonly machine: Machine;
}
