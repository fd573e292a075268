import type { LogPosition } from "../../raft/types.js";
import type { StoreRules } from "../rules/rules.js";
import type { TableInfo } from "../tables/format.js";

// The manifest: which tables hold the state as of a flush point. A function of the log.

/** Tables whose keys ascend from one to the next. */
export interface Run {
  /** Keys below this one are dead: a sweep has passed them. */
  readonly low: Uint8Array;
  readonly tables: readonly TableInfo[];
}

/** A sweep under way: it merges the oldest `inputs` runs of a level, below which all is done. */
export interface Sweep {
  readonly level: number;
  readonly inputs: number;
  /**
   * Whether it reads the base, too, and makes the next base. Otherwise it makes a run of the next
   * level.
   */
  readonly toBase: boolean;
  /** Tables made so far. They hold the keys below the inputs' low bound. */
  readonly output: readonly TableInfo[];
}

/** Records whose key begins with a byte and whose version is lower count as absent. */
export interface TableFloor {
  readonly firstByte: number;
  readonly version: number;
  /** Tables from this number on were written without such records. */
  readonly table: number;
}

/** The state as of a flush point. */
export interface Manifest {
  readonly rules: StoreRules;
  readonly position: LogPosition;
  /** Number of the step that made it, from 1; 0 for a state that was restored, or is new. */
  readonly step: number;
  /** Each with its runs, the newest first. */
  readonly levels: readonly (readonly Run[])[];
  readonly base: Run;
  /** In ascending order of their levels. */
  readonly sweeps: readonly Sweep[];
  /** In ascending order of their bytes. */
  readonly floors: readonly TableFloor[];
  readonly nextTable: number;
  /** Bytes of the state machine. */
  readonly note: Uint8Array;
}

const NO_KEY = new Uint8Array(0);

/** A run without tables. */
export const emptyRun: Run = { low: NO_KEY, tables: [] };

/** Returns the manifest of an empty store. It is never written. */
export function emptyManifest(rules: StoreRules): Manifest {
  return {
    rules,
    position: { index: 0, term: 0 },
    step: 0,
    levels: [],
    base: emptyRun,
    sweeps: [],
    floors: [],
    nextTable: 1,
    note: NO_KEY,
  };
}

/** Yields every table that a manifest names. */
export function* tablesOf({ levels, base, sweeps }: Manifest): Iterable<TableInfo> {
  for (const runs of levels) for (const { tables } of runs) yield* tables;
  for (const { output } of sweeps) yield* output;
  yield* base.tables;
}

/**
 * Returns the runs of a manifest in the order in which a reader looks into them: newest first. The
 * output of a sweep is behind its inputs, whose low bound hides them where the output is.
 */
export function runsInOrder({ levels, base, sweeps }: Manifest): Run[] {
  const runs: Run[] = [];
  for (const [level, ofLevel] of levels.entries()) {
    runs.push(...ofLevel);
    const sweep = sweeps.find((each) => each.level === level);
    if (sweep !== undefined) runs.push({ low: NO_KEY, tables: sweep.output });
  }
  runs.push(base);
  return runs.filter(({ tables }) => tables.length > 0);
}

/** Whether records below a floor may be in a table. */
export function mayHoldDead(floors: readonly TableFloor[], { number, first, last }: TableInfo): boolean {
  return floors.some(({ firstByte, table }) => number < table && first[0]! <= firstByte && firstByte <= last[0]!);
}

/** Name of a manifest's file: names sort by index. */
export function manifestName({ index, term }: LogPosition): string {
  return `${hex(index)}-${hex(term)}.man`;
}

/** Position that the name of a manifest's file says; undefined for any other name. */
export function manifestPosition(name: string): LogPosition | undefined {
  const match = /^([0-9a-f]{14})-([0-9a-f]{14})\.man$/.exec(name);
  if (match === null) return undefined;
  return { index: Number.parseInt(match[1]!, 16), term: Number.parseInt(match[2]!, 16) };
}

/** 14 digits hold every whole number that is safe. */
function hex(count: number): string {
  return count.toString(16).padStart(14, "0");
}
