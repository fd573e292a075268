import { isShortage } from "../../base/errors.js";
import type { StateMachine } from "../../machine/state_machine.js";
import type { DataDirectory } from "../../storage/data_dir.js";
import type { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import type { WriteAheadLog } from "../../storage/wal/wal.js";

/** The parts of a node that are on disk. */
export interface NodeStorage<Machine extends StateMachine> {
  readonly directory: DataDirectory;
  readonly log: WriteAheadLog;
  readonly snapshots: SnapshotStore;
  readonly machine: Machine;
}

/**
 * Closes all parts, with everything durable. When one part fails, the others are released all the
 * same, and the first error is thrown.
 */
export async function closeStorage(storage: NodeStorage<StateMachine>): Promise<void> {
  const { machine, log, directory } = storage;
  try {
    await machine.close();
    const { last } = log;
    await log.close();
    // Without room for the mark, the next start has one proof less.
    await directory.markStopped(last).catch((error: unknown) => {
      if (!isShortage(error)) throw error;
    });
    await directory.close();
  } catch (error) {
    await abandonStorage(storage);
    throw error;
  }
}

/**
 * Releases all parts as a crash would: writes nothing more. Never rejects: a process that dies
 * reports nothing either.
 */
export async function abandonStorage({ machine, log, directory }: NodeStorage<StateMachine>): Promise<void> {
  await machine.crash().catch(() => {});
  await log.crash().catch(() => {});
  directory.crash();
}
