import type { StoreRules } from "./rules.js";

// The rules of sweeps, version 1: which runs are merged at a flush point, and how far. Pure: whole
// numbers in, whole numbers out. The bytes of every store depend on them, so they never change; new
// rules get a new file and a new version.

/** A level as the rules see it. */
export interface LevelShape {
  readonly runs: number;
  /** Records in its runs that no sweep has passed. */
  readonly records: number;
  readonly isSwept: boolean;
}

export interface SweepStart {
  readonly level: number;
  /** Number of the level's oldest runs that the sweep reads. */
  readonly inputs: number;
  readonly toBase: boolean;
}

/**
 * Returns the sweeps that start now. `drain`: the oldest level goes into the base, whatever its
 * size.
 *
 * The oldest level goes into the base when it has `baseRuns` runs and all levels together hold half
 * as many records as the base. Any other level goes to the next one when it has `fanOut` runs.
 */
export function startingSweeps(
  rules: StoreRules,
  levels: readonly LevelShape[],
  baseRecords: number,
  drain: boolean,
): SweepStart[] {
  const starts: SweepStart[] = [];
  const records = levels.reduce((sum, level) => sum + level.records, 0);
  const oldest = levels.findLastIndex(({ runs }) => runs > 0);
  for (const [level, { runs, isSwept }] of levels.entries()) {
    if (isSwept || runs === 0) continue;
    const isDue = drain || (runs >= Math.min(rules.fanOut, rules.baseRuns) && 2 * records >= baseRecords);
    if (level === oldest && isDue) starts.push({ level, inputs: runs, toBase: true });
    else if (runs >= rules.fanOut) starts.push({ level, inputs: rules.fanOut, toBase: false });
  }
  return starts;
}

/** Returns the input that all sweeps of one step may read, in bytes of records. */
export function sweepQuota(rules: StoreRules): number {
  return rules.sweepFlushes * rules.flushBytes;
}

/**
 * Whether sweeps stop when this much input was read. They stop between two tables of their output,
 * and at the latest a table's least size behind the quota: deletes and overwritten records make
 * much input and little output.
 */
export function stopsSweep(rules: StoreRules, readBytes: number, isBetweenTables: boolean): boolean {
  const quota = sweepQuota(rules);
  return readBytes >= (isBetweenTables ? quota : quota + rules.tableBytesMin);
}

/** A table that no other input of its sweep overlaps, as the rules see it. */
export interface MovableTable {
  readonly bytes: number;
  readonly deletes: number;
  /** Whether records below a floor may be in it. */
  readonly mayHoldDead: boolean;
}

/**
 * Whether a sweep takes a table over as it is. It does not take deletes into the base, nor dead
 * records anywhere, and it merges tables of less than half the least size with their neighbours.
 */
export function movesTable(rules: StoreRules, table: MovableTable, toBase: boolean): boolean {
  return 2 * table.bytes >= rules.tableBytesMin && !(toBase && table.deletes > 0) && !table.mayHoldDead;
}
