import { Floors } from "../levels/floors.js";
import { OpenRun } from "../levels/levels.js";
import { type Manifest, runsInOrder } from "../levels/manifest.js";
import type { MemoryRecords } from "../memory/memory_records.js";
import { recordKind } from "../record.js";
import { filterHash } from "../tables/filter.js";
import type { TableInfo } from "../tables/format.js";
import type { Table } from "../tables/table.js";

/**
 * Returns the versions of the writes in a frozen table that made a key, ascending: of those that
 * were written without looking, to keys that the table itself did not know.
 */
export async function createdVersions(
  manifest: Manifest,
  table: MemoryRecords,
  places: Uint32Array,
  open: (info: TableInfo) => Promise<Table>,
): Promise<Float64Array> {
  const floors = new Floors(manifest.floors);
  const raised = new Floors(table.floors);
  const runs: OpenRun[] = [];
  for (const { low, tables } of runsInOrder(manifest)) {
    const opened: Table[] = [];
    for (const info of tables) opened.push(await open(info));
    runs.push(new OpenRun(low, opened));
  }
  const created: number[] = [];
  for (const newest of places) {
    const place = table.oldestOf(newest);
    const version = table.versionOf(place);
    const key = table.keyOf(place);
    if (table.kindOf(place) !== recordKind.inherits || raised.isRaised(key[0]!)) continue;
    if (!exists(manifest, runs, floors, key)) created.push(version);
  }
  return Float64Array.from(created).sort();
}

/** Reads on the calling thread, the step's: it has one read at a time to do in any case. */
function exists({ rules }: Manifest, runs: readonly OpenRun[], floors: Floors, key: Uint8Array): boolean {
  const hash = filterHash(rules, key);
  for (const run of runs) {
    const table = run.tableFor(key);
    if (table === undefined) continue;
    const record = table.find(key, hash);
    if (record === undefined) continue;
    return record.kind !== recordKind.deleted && !floors.isDead(key[0]!, record.version);
  }
  return false;
}
