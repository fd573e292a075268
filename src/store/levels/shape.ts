import { type Manifest, mayHoldDead, tablesOf } from "./manifest.js";

/** A drain is worth its writing when at least one record of so many is dead. */
const LEAST_DEAD_SHARE = 8;

/** Returns the records in all tables: each copy of a key counts, and so does a delete. */
export function recordsAbout(manifest: Manifest): number {
  let sum = 0;
  for (const { records } of tablesOf(manifest)) sum += records;
  return sum;
}

/** The table in memory, as far as it tells what a drain would free. */
export interface UnwrittenTable {
  readonly count: number;
  /** Deletes written. */
  readonly deletes: number;
  readonly floors: readonly unknown[];
}

/**
 * Whether a flush point that drains would free room worth the writing: a sweep is under way, or
 * deletes and records below floors are an eighth of the records.
 */
export function wantsDrain(manifest: Manifest, unwritten: UnwrittenTable): boolean {
  if (manifest.sweeps.length > 0) return true;
  const records = recordsAbout(manifest);
  if (unwritten.floors.length > 0 && records > 0) return true;
  let dead = unwritten.deletes;
  for (const table of tablesOf(manifest)) {
    dead += mayHoldDead(manifest.floors, table) ? table.records : table.deletes;
  }
  return dead > 0 && LEAST_DEAD_SHARE * dead >= records + unwritten.count;
}

/** Returns the bytes of the tables that an older manifest names, and a newer one does not. */
export function supersededBytes(older: Manifest, newer: Manifest): number {
  const named = new Set<number>();
  for (const { number } of tablesOf(newer)) named.add(number);
  let sum = 0;
  for (const { number, bytes } of tablesOf(older)) if (!named.has(number)) sum += bytes;
  return sum;
}
