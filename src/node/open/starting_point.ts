import type { IndexedMembership, LogPosition, SnapshotMeta } from "../../raft/types.js";
import type { WriteAheadLog } from "../../storage/wal/wal.js";

/** A position at or behind the log's start whose state and membership are known. */
export interface StartingPoint {
  /** Undefined at the beginning of a log that was never trimmed. */
  readonly snapshot: LogPosition | undefined;
  readonly membership: IndexedMembership;
}

/**
 * Finds a position at which a node can start although all its snapshots end below the log's start:
 * a trusted state that is applied up to the log's start or further fills the hole (T7). The
 * membership must be known as well. It stands in the header of a damaged snapshot if the damage is
 * elsewhere (`headers`), or in a configuration entry that the state has applied. Returns undefined
 * when there is no such position.
 *
 * The core then takes this position for its newest snapshot, although no file covers it; the node
 * takes a snapshot as soon as it runs.
 */
export async function pointInState(
  log: WriteAheadLog,
  headers: readonly SnapshotMeta[],
  appliedIndex: number,
  configurations: readonly number[],
  membershipAt: (configuration: number) => Promise<IndexedMembership>,
): Promise<StartingPoint | undefined> {
  const { index: start } = log.boundary;
  const isCovered = ({ index }: { readonly index: number }) => index >= start && index <= appliedIndex;
  const known: SnapshotMeta[] = headers.filter((meta) => isCovered(meta) && log.termAt(meta.index) === meta.term);
  for (const index of configurations.filter((index) => isCovered({ index }))) {
    known.push({ index, term: log.termAt(index)!, membership: await membershipAt(index) });
  }
  const lowest = known.sort((a, b) => a.index - b.index)[0];
  if (lowest === undefined) return undefined;
  const { index, term, membership } = lowest;
  return { snapshot: { index, term }, membership };
}
