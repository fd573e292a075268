import { CairnError } from "../../base/errors.js";
import type { Membership } from "../../raft/types.js";
import type { SnapshotOffer } from "../../storage/snapshots/snapshot_info.js";
import type { SnapshotStore } from "../../storage/snapshots/snapshot_store.js";
import type { WriteAheadLog } from "../../storage/wal/wal.js";

/** What a node lacks whose log does not go on from any good snapshot that it has. */
export interface MissingSnapshot {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Where the log begins: a snapshot below this index is of no use. */
  readonly leastIndex: number;
  /**
   * The members, as far as what is left on the disk says: each of them may have a snapshot that
   * will do.
   */
  readonly members: Membership;
  /** Why the node does not start without it. */
  readonly refusal: CairnError;
}

/**
 * Takes a snapshot file in; when it resolves, the file is verified and one of the node's own.
 * @throws CairnError CORRUPT, WRONG_CLUSTER, INVALID_ARGUMENT for one that is not good or will not
 * do, and what `pieces` throws: another one may be tried. DISK_FULL, STORAGE_FAILED
 */
export type SnapshotTaker = (offer: SnapshotOffer, pieces: AsyncIterable<Uint8Array>) => Promise<void>;

/**
 * Gets a snapshot from another member, and returns when one was taken.
 * @throws CairnError, with which the start ends
 */
export type SnapshotSource = (missing: MissingSnapshot, take: SnapshotTaker) => Promise<void>;

/** There is a hole between the newest good snapshot and the log (R9). */
export class HoleError extends CairnError {}

/**
 * Does `work`, which a hole between snapshot and log may end; then has `source` fill the hole, and
 * does it once more.
 *
 * A node may start on a snapshot of another member because nothing that it has promised is in the
 * file that it lacks. Its promises are term and vote, and that the entries which it has
 * acknowledged are durable: the former, and the entries behind the log's beginning, are in the log,
 * which is whole. What lies before that was committed when the log was trimmed, and a snapshot of
 * any member holds committed entries only: of two such snapshots at one index each stands for the
 * other, and one at a higher index holds what one at a lower does. That the log begins within or
 * right behind the snapshot is checked before it is taken; where the log has less than the
 * snapshot, or other entries, none of those was committed, and the installation is finished as one
 * is that a leader has sent (R4 and R8). The node takes no part in the cluster before all this is
 * done.
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

/** Takes snapshots into a store, for a log. */
export function snapshotTaker(snapshots: SnapshotStore, log: WriteAheadLog): SnapshotTaker {
  return async (offer, pieces) => {
    checkFits(offer, log);
    const receiver = await snapshots.receive(offer);
    try {
      // An earlier try may have left a part of the file; the pieces begin at its beginning all the
      // same.
      let known = receiver.offset;
      for await (const piece of pieces) {
        const rest = piece.subarray(Math.min(known, piece.byteLength));
        known -= piece.byteLength - rest.byteLength;
        if (rest.byteLength > 0) await receiver.write(receiver.offset, rest);
      }
      await (await receiver.finish()).publish();
    } finally {
      // Nothing is left to be given up when it was taken.
      await receiver.abort();
    }
  };
}

function checkFits({ index, term }: SnapshotOffer, log: WriteAheadLog): void {
  if (index < log.boundary.index) {
    const text = `a snapshot at index ${index} does not reach up to the log, which begins behind index ${log.boundary.index}`;
    throw new CairnError("INVALID_ARGUMENT", text);
  }
  const own = log.termAt(index);
  // The boundary was committed whatever the hint says. Above it, another term only means that the
  // entry here never was.
  const isCommitted = index === log.boundary.index || index <= log.hardState.commit;
  if (own === undefined || own === term || !isCommitted) return;
  throw new CairnError(
    "CORRUPT",
    `a snapshot at index ${index} of term ${term} is offered, but the entry committed there is of term ${own}: the members have diverged`,
  );
}
