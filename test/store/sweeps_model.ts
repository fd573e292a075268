import type { StoreRules } from "../../src/store/rules/rules.js";
import { startingSweeps, stopsSweep } from "../../src/store/rules/v1_sweeps.js";

/** Keys in ascending order, and the first of them that no sweep has passed. */
interface ModelRun {
  readonly keys: readonly number[];
  low: number;
}

interface ModelSweep {
  readonly level: number;
  readonly inputs: readonly ModelRun[];
  readonly toBase: boolean;
  readonly output: number[];
}

/** Levels of keys instead of tables: each record has one byte, and tables end at their least size. Nothing is ever deleted. */
export class LevelsModel {
  levels: ModelRun[][] = [];
  base: ModelRun = { keys: [], low: 0 };
  #sweeps: ModelSweep[] = [];
  /** Records written, in all. */
  written = 0;
  /** Input of the sweeps of the newest step, in records. */
  read = 0;

  constructor(private readonly rules: StoreRules) {}

  get runs(): number {
    return this.levels.flat().length + 1;
  }

  /** Records in files, of which those of finished tables below a sweep's place are free. */
  get records(): number {
    const parts = [this.base, ...this.levels.flat()];
    const freed = (run: ModelRun) => run.low - (run.low % this.rules.tableBytesMin);
    const inputs = parts.reduce((sum, run) => sum + run.keys.length - freed(run), 0);
    return inputs + this.#sweeps.reduce((sum, { output }) => sum + output.length, 0);
  }

  step(keys: ReadonlySet<number>): void {
    const run = { keys: [...keys].sort((a, b) => a - b), low: 0 };
    this.levels[0] = [run, ...(this.levels[0] ?? [])];
    this.written += keys.size;
    this.read = 0;
    do this.#start();
    while (this.#advance());
  }

  #start(): void {
    const shapes = this.levels.map((runs, level) => {
      const records = runs.reduce((sum, { keys, low }) => sum + keys.length - low, 0);
      return { runs: runs.length, records, isSwept: this.#sweeps.some((sweep) => sweep.level === level) };
    });
    const baseRecords = this.base.keys.length - this.base.low;
    for (const { level, inputs, toBase } of startingSweeps(this.rules, shapes, baseRecords, false)) {
      const runs = this.levels[level]!.slice(-inputs);
      this.#sweeps.push({ level, inputs: toBase ? [...runs, this.base] : runs, toBase, output: [] });
    }
    this.#sweeps.sort((a, b) => a.level - b.level);
  }

  /** Returns whether a sweep has ended, so that others may start. */
  #advance(): boolean {
    for (const sweep of this.#sweeps) {
      for (;;) {
        const isBetween = sweep.output.length % this.rules.tableBytesMin === 0;
        if (stopsSweep(this.rules, this.read, isBetween)) return false;
        const rest = sweep.inputs.filter(({ keys, low }) => low < keys.length);
        if (rest.length === 0) break;
        const least = Math.min(...rest.map(({ keys, low }) => keys[low]!));
        for (const run of rest) {
          if (run.keys[run.low] !== least) continue;
          run.low += 1;
          this.read += 1;
        }
        sweep.output.push(least);
        this.written += 1;
      }
      this.#end(sweep);
      return true;
    }
    return false;
  }

  #end(sweep: ModelSweep): void {
    const { level, inputs, toBase, output } = sweep;
    this.#sweeps = this.#sweeps.filter((each) => each !== sweep);
    this.levels[level] = this.levels[level]!.slice(0, toBase ? 1 - inputs.length : -inputs.length);
    const run = { keys: output, low: 0 };
    if (toBase) this.base = run;
    else this.levels[level + 1] = [run, ...(this.levels[level + 1] ?? [])];
  }
}
