import { type Manifest, mayHoldDead, tablesOf } from "./manifest.js";

/** A drain is worth its writing when at least one record of so many is dead. */
const LEAST_DEAD_SHARE = 8;

/** Returns the records in all tables: each copy of a key counts, and so does a delete. */
export function recordsAbout(manifest: Manifest): number {
  let sum = 0;
  for (const { records } of tablesOf(manifest)) sum += records;
  return sum;
}

/**
 * Whether a flush point that drains would free room worth the writing: a sweep is under way, or
 * deletes and records below floors are an eighth of the records.
 */
export function wantsDrain(manifest: Manifest): boolean {
  if (manifest.sweeps.length > 0) return true;
  let dead = 0;
  for (const table of tablesOf(manifest)) {
    dead += mayHoldDead(manifest.floors, table) ? table.records : table.deletes;
  }
  return dead > 0 && LEAST_DEAD_SHARE * dead >= recordsAbout(manifest);
}
