import { isShortage } from "../../base/errors.js";
import type { LogPosition } from "../../raft/types.js";
import { readSmallFile } from "../../system/fs.js";
import { raisedFloors } from "../levels/floors.js";
import { emptyRun, type Manifest, manifestName, type Run } from "../levels/manifest.js";
import { decodeManifest } from "../levels/manifest_bytes.js";
import { MemoryRecords, type SharedTable } from "../memory/memory_records.js";
import { type LevelShape, startingSweeps, stopsSweep, sweepQuota } from "../rules/v1_sweeps.js";
import { createdVersions } from "./created.js";
import { StepFiles, type StepWorld } from "./step_files.js";
import { SweepAdvance, type SweepBudget } from "./sweep.js";
import { TableOutput } from "./table_output.js";

/** All that a step depends on: a function of the log. */
export interface StepTask {
  /** The newest manifest. */
  readonly manifest: Manifest;
  /** The frozen table. */
  readonly table: SharedTable;
  /** The flush point that froze it. */
  readonly position: LogPosition;
  readonly note: Uint8Array;
  /** Whether everything is swept into the base. */
  readonly drain: boolean;
  /** Whether to find out which blind writes made a key. The files do not depend on it. */
  readonly findsCreated: boolean;
}

export interface StepOutcome {
  readonly manifest: Manifest;
  /** See {@link WrittenTable.created}. */
  readonly created: Float64Array | undefined;
  /** Bytes of tables written. */
  readonly writtenBytes: number;
}

/**
 * Carries a step out: writes the frozen table, advances the sweeps, and publishes the next
 * manifest, durably. May be repeated after it has failed anywhere: it makes the same files.
 */
export async function executeStep(world: StepWorld, task: StepTask): Promise<StepOutcome> {
  const { manifest, position } = task;
  const { rules } = manifest;
  const files = new StepFiles(world.fs, world.directory, rules, manifest.nextTable, world);
  try {
    const table = MemoryRecords.of(task.table);
    const places = table.sorted();
    const created = task.findsCreated ? await createdVersions(manifest, table, places, files.open) : undefined;
    const published = await findManifest(world, position);
    if (published !== undefined) return { manifest: published, created, writtenBytes: 0 };

    const run = await writeTable(table, places, files);
    const floors = raisedFloors(manifest.floors, table.floors, manifest.nextTable);
    const step = manifest.step + 1;
    const levels = run === undefined ? manifest.levels : withRun(manifest.levels, run);
    const swept = await sweep({ ...manifest, position, note: task.note, step, floors, levels }, task.drain, files);
    const next = { ...swept, nextTable: files.nextTable };
    await files.publish(next);
    return { manifest: next, created, writtenBytes: files.writtenBytes };
  } catch (error) {
    if (isShortage(error)) await files.discard();
    throw error;
  } finally {
    await files.close();
  }
}

/** Returns the manifest of a step that has ended before, but whose end was not heard of. */
async function findManifest({ fs, directory }: StepWorld, position: LogPosition): Promise<Manifest | undefined> {
  const path = `${directory}/${manifestName(position)}`;
  if (!(await fs.exists(path))) return undefined;
  const manifest = decodeManifest(await readSmallFile(fs, path), path);
  await fs.syncDirectory(directory);
  return manifest;
}

/** Writes the records of a memory table; undefined when there are none. */
async function writeTable(table: MemoryRecords, places: Uint32Array, files: StepFiles): Promise<Run | undefined> {
  if (places.length === 0) return undefined;
  const output = new TableOutput(files, true);
  try {
    for (const place of places) {
      const adding = output.add(table.record(place));
      if (adding !== undefined) await adding;
    }
    await output.end();
  } catch (error) {
    await output.abandon().catch(() => {});
    throw error;
  }
  return { ...emptyRun, tables: output.tables };
}

function withRun([first = [], ...others]: readonly (readonly Run[])[], run: Run): readonly (readonly Run[])[] {
  return [[run, ...first], ...others];
}

/** Starts the sweeps that are due, and advances all, the lowest level first. */
async function sweep(manifest: Manifest, drain: boolean, files: StepFiles): Promise<Manifest> {
  const budget: SweepBudget = { readBytes: 0 };
  let present = withStarted(manifest, drain);
  files.expectedBytes = manifest.rules.flushBytes + Math.min(sweepQuota(manifest.rules), inputBytes(present));
  while (present.sweeps.length > 0 && !stopsSweep(manifest.rules, budget.readBytes, true)) {
    const [lowest] = present.sweeps;
    const next = await new SweepAdvance(present, lowest!, budget, files).run();
    const hasEnded = next.sweeps.every(({ level }) => level !== lowest!.level);
    // Only one that was stopped is left as it is: no other may go on either.
    if (!hasEnded) return next;
    present = withStarted(next, drain);
  }
  return present;
}

function withStarted(manifest: Manifest, drain: boolean): Manifest {
  const { rules, levels, base, sweeps } = manifest;
  const shapes = levels.map((runs, level): LevelShape => {
    const isSwept = sweeps.some((sweep) => sweep.level === level);
    return { runs: runs.length, records: runs.reduce((sum, run) => sum + recordsOf(run), 0), isSwept };
  });
  const started = startingSweeps(rules, shapes, recordsOf(base), drain).map((start) => ({ ...start, output: [] }));
  if (started.length === 0) return manifest;
  return { ...manifest, sweeps: [...sweeps, ...started].sort((a, b) => a.level - b.level) };
}

/** Returns the bytes of all tables that sweeps have yet to read. */
function inputBytes({ levels, base, sweeps }: Manifest): number {
  const bytesOf = (runs: readonly Run[]) => {
    return runs.reduce((sum, { tables }) => tables.reduce((bytes, table) => bytes + table.bytes, sum), 0);
  };
  return sweeps.reduce((sum, { level, inputs, toBase }) => {
    return sum + bytesOf(levels[level]!.slice(-inputs)) + (toBase ? bytesOf([base]) : 0);
  }, 0);
}

function recordsOf({ tables }: Run): number {
  return tables.reduce((sum, { records }) => sum + records, 0);
}
