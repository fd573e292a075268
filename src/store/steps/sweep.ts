import { Floors } from "../levels/floors.js";
import { emptyRun, type Manifest, mayHoldDead, type Run, type Sweep } from "../levels/manifest.js";
import { MergeOrder } from "../levels/merge_order.js";
import { type RecordKind, recordKind } from "../record.js";
import { chargeOf, combinedFirst, combinedKind, settle } from "../rules/v1.js";
import { movesTable, stopsSweep } from "../rules/v1_sweeps.js";
import { RunCursor } from "./run_cursor.js";
import type { StepFiles } from "./step_files.js";
import { TableOutput } from "./table_output.js";

/** Input that the sweeps of one step have read, in bytes of records. */
export interface SweepBudget {
  readBytes: number;
}

/** A sweep of a manifest that a step advances. */
export class SweepAdvance {
  readonly #order = new MergeOrder<RunCursor>();
  readonly #output: TableOutput;
  readonly #floors: Floors;
  readonly #cursors: readonly RunCursor[];

  constructor(
    private readonly manifest: Manifest,
    private readonly sweep: Sweep,
    private readonly budget: SweepBudget,
    files: StepFiles,
  ) {
    this.#floors = new Floors(manifest.floors);
    this.#cursors = inputsOf(manifest, sweep).map((run, age) => new RunCursor(run, age, files.open));
    this.#output = new TableOutput(files, !sweep.toBase, [...sweep.output]);
  }

  /** Reads until the rules stop it, or the inputs are at their end; returns the next manifest. */
  async run(): Promise<Manifest> {
    for (const cursor of this.#cursors) if (await cursor.begin()) this.#order.insert(cursor);
    try {
      const isDone = await this.#merge();
      await this.#output.end();
      return isDone ? this.#finished() : this.#advanced();
    } catch (error) {
      await this.#output.abandon().catch(() => {});
      throw error;
    }
  }

  /** Returns whether the inputs are at their end. */
  async #merge(): Promise<boolean> {
    const order = this.#order;
    const taken: RunCursor[] = [];
    for (let first = order.first; first !== undefined; first = order.first) {
      if (stopsSweep(this.manifest.rules, this.budget.readBytes, this.#output.isBetweenTables)) return false;
      if (first.untouched !== undefined && this.#isMoved(first)) {
        this.#output.move(first.untouched);
        if (first.pass()) order.placeFirst();
        else order.dropFirst();
        continue;
      }
      const isAlone = order.isFirstAlone;
      if (isAlone) taken.splice(0, taken.length, first);
      else order.takeEqual(taken);
      for (const cursor of taken) if (cursor.untouched !== undefined) await cursor.touch();
      const adding = this.#add(taken);
      if (adding !== undefined) await adding;
      for (const cursor of taken) {
        const moving = cursor.advance();
        const isThere = moving === true || (moving !== false && (await moving));
        if (!isAlone) {
          if (isThere) order.insert(cursor);
        } else if (isThere) order.placeFirst();
        else order.dropFirst();
      }
    }
    return true;
  }

  /** Whether the first source's untouched table is taken over as it is. */
  #isMoved(first: RunCursor): boolean {
    const table = first.untouched!;
    const { second } = this.#order;
    if (!this.#output.isBetweenTables) return false;
    if (second !== undefined && second.reader.compareToKey(table.last) <= 0) return false;
    const { rules, floors } = this.manifest;
    return movesTable(rules, { ...table, mayHoldDead: mayHoldDead(floors, table) }, this.sweep.toBase);
  }

  /** Writes what the records of one key, the newest first, come to. */
  #add(cursors: readonly RunCursor[]): Promise<void> | undefined {
    let newest: RunCursor | undefined;
    let kind: RecordKind = recordKind.gone;
    let first = 0;
    for (const cursor of cursors) {
      const { reader } = cursor;
      this.budget.readBytes += chargeOf(reader.keyBytes, reader.valueBytes);
      if (this.#floors.isDead(reader.bytes[reader.keyAt]!, reader.version)) continue;
      if (newest === undefined) {
        newest = cursor;
        ({ kind, first } = reader);
      } else {
        first = combinedFirst(kind, first, reader.kind, reader.first);
        kind = combinedKind(kind, reader.kind);
      }
    }
    if (newest === undefined) return undefined;
    if (this.sweep.toBase) kind = settle(kind);
    return kind === recordKind.gone ? undefined : this.#output.addFrom(newest.reader, kind, first);
  }

  #advanced(): Manifest {
    const { reader } = this.#order.first!;
    const low = reader.key.slice();
    const above = (run: Run): Run => {
      return { low, tables: run.tables.filter(({ last }) => Buffer.compare(last, low) >= 0) };
    };
    const { level, inputs, toBase } = this.sweep;
    const { levels, base, sweeps } = this.manifest;
    const sweep = { ...this.sweep, output: this.#output.tables };
    return {
      ...this.manifest,
      levels: levels.map((runs, at) => {
        return at === level ? [...runs.slice(0, -inputs), ...runs.slice(-inputs).map(above)] : runs;
      }),
      base: toBase ? above(base) : base,
      sweeps: sweeps.map((each) => (each.level === level ? sweep : each)),
    };
  }

  #finished(): Manifest {
    const { level, inputs, toBase } = this.sweep;
    const output: Run = { ...emptyRun, tables: this.#output.tables };
    const levels = this.manifest.levels.map((runs, at) => (at === level ? runs.slice(0, -inputs) : [...runs]));
    if (!toBase && output.tables.length > 0) levels[level + 1] = [output, ...(levels[level + 1] ?? [])];
    while (levels.at(-1)?.length === 0) levels.pop();
    const sweeps = this.manifest.sweeps.filter((each) => each.level !== level);
    return { ...this.manifest, levels, base: toBase ? output : this.manifest.base, sweeps };
  }
}

/** Returns the runs that a sweep reads, newest first. */
function inputsOf({ levels, base }: Manifest, { level, inputs, toBase }: Sweep): Run[] {
  const runs = levels[level]!.slice(-inputs);
  return toBase ? [...runs, base] : runs;
}
