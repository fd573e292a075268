import type { HistogramView } from "../../base/telemetry/measures.js";
import type { Monitored } from "../monitored.js";

/** Labels of a sample; a family's samples all have the same names. */
export type Labels = Readonly<Record<string, string>>;

/** One figure of a family. A number that is not known is left out. */
export interface Sample {
  readonly labels?: Labels;
  readonly value: number | undefined;
}

/** The distribution of a family's values with these labels. */
export interface Distribution {
  readonly labels?: Labels;
  readonly view: HistogramView;
  /** Factor from the values of the view to the unit of the family: 0.001 for ms. */
  readonly unit: number;
}

/** A metric: its name after the conventions of Prometheus (base units, `_total` for counters). */
export type Family = { readonly name: string; readonly help: string } & (
  | { readonly type: "gauge" | "counter"; readonly collect: (from: Monitored) => readonly Sample[] }
  | { readonly type: "histogram"; readonly collect: (from: Monitored) => readonly Distribution[] }
);

/** Returns a family with one figure. */
export function one(
  type: "gauge" | "counter",
  name: string,
  help: string,
  value: (from: Monitored) => number | undefined,
): Family {
  return { type, name, help, collect: (from) => [{ value: value(from) }] };
}

/** Returns a family with one distribution of milliseconds, in seconds. */
export function seconds(name: string, help: string, view: (from: Monitored) => HistogramView): Family {
  return { type: "histogram", name, help, collect: (from) => [{ view: view(from), unit: MS }] };
}

/** Seconds in a millisecond. */
export const MS = 0.001;
