import { CairnError } from "../../base/errors.js";
import type { Membership } from "../../raft/types.js";
import type { SnapshotOffer } from "../../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import type { WriteAheadLog } from "../../storage/wal/wal.js";

/**
 * Describes the snapshot that a node must fetch before it can start: its log continues from none of
 * its good snapshots.
 */
export interface MissingSnapshot {
  readonly nodeId: string;
  readonly clusterId: string;
  /** The log's boundary: a snapshot below this index is of no use. */
  readonly leastIndex: number;
  /** The members known from the rest of the disk: each of them may have a suitable snapshot. */
  readonly members: Membership;
  /** The error with which the node refuses to start without the snapshot. */
  readonly refusal: CairnError;
}

/**
 * Takes a snapshot file into the store. When it resolves, the file is verified and stored.
 * @throws CairnError CORRUPT, WRONG_CLUSTER, INVALID_ARGUMENT for a bad or unsuitable file, and any
 * error of `pieces`: another file may be tried. DISK_FULL, STORAGE_FAILED
 */
export type SnapshotTaker = (offer: SnapshotOffer, pieces: AsyncIterable<Uint8Array>) => Promise<void>;

/**
 * Fetches a snapshot from another member; resolves when one was taken.
 * @throws CairnError, with which the start fails
 */
export type SnapshotSource = (missing: MissingSnapshot, take: SnapshotTaker) => Promise<void>;

/** Thrown when there is a hole between the newest good snapshot and the log (R9). */
export class HoleError extends CairnError {}

/**
 * Does `work`; if a hole between snapshot and log ends it, has `source` fill the hole, and does the
 * work once more.
 *
 * A node may start from a snapshot of another member because the missing file holds nothing that
 * the node has promised. A node promises its term, its vote, and that acknowledged entries are
 * durable. Term, vote and the entries behind the log's start are in the log, which is whole. The
 * entries before that were committed when the log was trimmed, and a snapshot of any member holds
 * only committed entries. So two such snapshots at one index are interchangeable, and one at a
 * higher index includes one at a lower index. Before the snapshot is taken, this checks that the
 * log begins within or right behind it. If the log has less than the snapshot, or other entries,
 * none of those was committed, and the installation is finished like that of a leader's snapshot
 * (R4 and R8). The node takes no part in the cluster until all this is done.
 */
export async function withoutHole<Result>(
  work: () => Promise<Result>,
  source: SnapshotSource | undefined,
  missing: (refusal: CairnError) => Promise<MissingSnapshot>,
  take: SnapshotTaker,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof HoleError) || source === undefined) throw error;
    await source(await missing(error), take);
    return work();
  }
}

/** Returns a function that takes snapshots into a store, if they fit a log. */
export function snapshotTaker(snapshots: SnapshotStore, log: WriteAheadLog): SnapshotTaker {
  return async (offer, pieces) => {
    checkFits(offer, log);
    const receiver = await snapshots.receive(offer);
    try {
      // An earlier attempt may have left a part of the file, but the pieces start at the beginning.
      let known = receiver.offset;
      for await (const piece of pieces) {
        const rest = piece.subarray(Math.min(known, piece.byteLength));
        known -= piece.byteLength - rest.byteLength;
        if (rest.byteLength > 0) await receiver.write(receiver.offset, rest);
      }
      await (await receiver.finish()).publish();
    } finally {
      // Does nothing after the snapshot was taken.
      await receiver.abort();
    }
  };
}

function checkFits({ index, term }: SnapshotOffer, log: WriteAheadLog): void {
  if (index < log.boundary.index) {
    const text = `a snapshot at index ${index} does not reach the log, which begins behind index ${log.boundary.index}`;
    throw new CairnError("INVALID_ARGUMENT", text);
  }
  const own = log.termAt(index);
  // The boundary was committed, whatever the hard state's commit index says. Above that index,
  // another term only means that the entry here was never committed.
  const isCommitted = index === log.boundary.index || index <= log.hardState.commit;
  if (own === undefined || own === term || !isCommitted) return;
  throw new CairnError(
    "CORRUPT",
    `a snapshot at index ${index} of term ${term} is offered, but the entry committed there is of term ${own}: the members have diverged`,
  );
}
