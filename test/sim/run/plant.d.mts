import type { PlantedBug } from "../faults/planted_bugs.js";
import type { SeedResult, SimulationOptions } from "./launch.mjs";

export interface SearchOptions {
  /** The seeds to try, in this order. */
  readonly list: readonly number[];
  /** A run ends with this event if nothing fails before. Left out: when its story does. */
  readonly mostEvents?: number;
  readonly signal: AbortSignal;
  /** Default: runSimulation. */
  readonly simulate?: (options: SimulationOptions) => Promise<SeedResult[]>;
}

/**
 * Returns the seed that finds a bug in the fewest events; without `seed` when no seed finds it.
 * The search ends some seeds after the first that fails, or with one that fails soon. A run ends
 * when it has as many events as the best one.
 */
export function findSeed(
  bug: Pick<PlantedBug, "patches" | "identities" | "state">,
  options: SearchOptions,
): Promise<{ readonly seed?: number; readonly events?: number; readonly tried: number }>;

/** Returns the seed that is kept for each planted bug, by the bug's name. */
export function readSeeds(): Promise<Readonly<Record<string, number>>>;
