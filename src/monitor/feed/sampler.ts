import { type HistogramView, quantileOf } from "../../base/telemetry/measures.js";
import type { Monitored, MonitoredNode } from "../monitored.js";
import type { ProcessFigures } from "../process_figures.js";
import type { ChartFigure, ChartPoint } from "./shown.js";
import { chartFigures } from "./shown.js";

/** Points of the charts that are kept: 15 minutes. */
const POINTS = 450;

/** Time between two points, in ms. */
export const POINT_MS = 2_000;

/** The counts at the last point. */
interface Counts {
  /** By a clock that nobody sets. */
  readonly ms: number;
  readonly measures: MonitoredNode["measures"];
  readonly writes: HistogramView;
  readonly reads: HistogramView;
  readonly syncs: HistogramView;
}

/** Makes the points of the charts from a node's measures, and keeps the newest. */
export class Sampler {
  readonly points: ChartPoint[] = [];
  #last: Counts | undefined;

  constructor(private readonly figures: ProcessFigures) {}

  /** Makes the next point; returns it, but the first time, when nothing can be compared. */
  sample({ node }: Monitored, ms = performance.now(), unixMs = Date.now()): ChartPoint | undefined {
    const { measures } = node;
    const counts = {
      ms,
      measures,
      writes: measures.writes.view(),
      reads: measures.reads.view(),
      syncs: measures.logSyncs.view(),
    };
    const last = this.#last;
    this.#last = counts;
    // A node that took this one's place counts from the beginning.
    if (last?.measures !== measures || ms <= last.ms) return undefined;
    const seconds = (ms - last.ms) / 1_000;
    const writes = difference(counts.writes, last.writes);
    const values: Readonly<Record<ChartFigure, number | undefined>> = {
      writes: writes.count / seconds,
      reads: difference(counts.reads, last.reads).count / seconds,
      writeP50: quantileOf(writes, 0.5),
      writeP99: quantileOf(writes, 0.99),
      syncP99: quantileOf(difference(counts.syncs, last.syncs), 0.99),
      logBytes: node.logStats.diskBytes,
      loopDelay: (this.figures.loopDelay(0.99) ?? 0) * 1_000,
      lag: Math.max(0, node.knownCommit - node.machine.appliedIndex),
      memory: process.memoryUsage.rss(),
    };
    const point: ChartPoint = [unixMs, ...chartFigures.map((name) => rounded(values[name]))];
    this.points.push(point);
    if (this.points.length > POINTS) this.points.shift();
    return point;
  }
}

function difference(now: HistogramView, before: HistogramView): HistogramView {
  return {
    bounds: now.bounds,
    counts: now.counts.map((count, at) => count - before.counts[at]!),
    count: now.count - before.count,
    sum: now.sum - before.sum,
  };
}

function rounded(value: number | undefined): number | null {
  return value === undefined ? null : Number(value.toPrecision(5));
}
