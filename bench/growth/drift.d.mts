export interface Drift {
  readonly name: string;
  readonly reference: number;
  readonly later: number;
  readonly perHour: number;
  readonly change: number;
  readonly error: number;
  readonly drifts: boolean | undefined;
}

export function driftOf(series: Readonly<Record<string, readonly number[]>>, intervalSeconds: number): Drift[];
export function fit(values: readonly number[]): { slope: number; error: number };
