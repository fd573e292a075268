import type { Patch } from "./bundle.mjs";
import type { RunResult } from "./run.js";

export interface SimulatorOptions {
  /** Processes. Default 2. */
  readonly workers?: number;
  /** Changes of the source to run with. */
  readonly patches?: readonly Patch[];
}

export interface RunOptions {
  /** How many seeds, from `start` on (default 1). */
  readonly seeds?: number;
  readonly start?: number;
  /** These seeds instead. */
  readonly list?: readonly number[];
  /** Clusters of so many nodes; left out: the seed decides. */
  readonly nodes?: number;
  /** Whether nodes are given their identity, or draw it; left out: the seed decides. */
  readonly identities?: "given" | "drawn" | undefined;
  /** Where nodes keep their state; left out: the seed decides. */
  readonly state?: "memory" | "store" | undefined;
  /** Each process prints all that happens. */
  readonly trace?: boolean;
  /** Do not stop at a seed that fails. */
  readonly goOn?: boolean;
  /** Returns how many events the next run has at most. Default: a run ends when its story does. */
  readonly mostEvents?: () => number | undefined;
  readonly onResult?: (result: SeedResult) => void;
  /** Begins no more seeds. */
  readonly signal?: AbortSignal;
}

export type SimulationOptions = SimulatorOptions & RunOptions;

export type SeedResult = RunResult & { readonly cpuMs: number };

export interface Summary {
  readonly seeds: number;
  readonly simulatedHours: number;
  readonly events: number;
  readonly counts: Readonly<Record<string, number>>;
}

/**
 * Runs seeds in processes of their own; resolves with their results, in the order in which they ended. After a failure no more seeds are begun,
 * unless `goOn` is set.
 */
export function runSimulation(options: SimulationOptions): Promise<SeedResult[]>;

/** Processes that run seeds, also for several runs one after the other. */
export class Simulator {
  private constructor();
  static open(options?: SimulatorOptions): Promise<Simulator>;
  /** Like {@link runSimulation}. */
  run(options: RunOptions): Promise<SeedResult[]>;
  /** Ends the processes. */
  close(): Promise<void>;
}

/** Sums of what the runs have counted. */
export function summarize(results: readonly SeedResult[]): Summary;
