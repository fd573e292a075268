import { createRequire } from "node:module";
import type { Monitored } from "../monitored.js";
import type { ProcessFigures } from "../process_figures.js";
import { callFamilies } from "./call_families.js";
import type { Distribution, Family, Labels, Sample } from "./family.js";
import { logFamilies } from "./log_families.js";
import { processFamilies } from "./process_families.js";
import { raftFamilies } from "./raft_families.js";

/** A value as prom-client writes it. */
interface MetricValue {
  readonly metricName?: string;
  readonly labels: Labels;
  readonly value: number;
}

/** The metrics of a member as text. The library is loaded by the first scrape. */
export class Exporter {
  readonly families: readonly Family[];
  #registry: import("prom-client").Registry | undefined;

  constructor(
    private readonly monitored: () => Monitored | undefined,
    private readonly figures: ProcessFigures,
  ) {
    this.families = [...raftFamilies, ...logFamilies, ...callFamilies, ...processFamilies(figures)];
  }

  /** Returns the type and the text of the metrics, in the text format of Prometheus. */
  async scrape(): Promise<{ readonly contentType: string; readonly text: string }> {
    await this.figures.look();
    this.#registry ??= this.#load();
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  #load(): import("prom-client").Registry {
    const { Registry } = createRequire(import.meta.url)("prom-client") as typeof import("prom-client");
    const registry = new Registry();
    for (const family of this.families) registry.registerMetric(this.#metric(family) as never);
    return registry;
  }

  /** Returns a metric that reads its figures when it is scraped: nothing counts twice. */
  #metric(family: Family): object {
    const { name, help, type } = family;
    const values = (): MetricValue[] => {
      const from = this.monitored();
      if (from === undefined) return [];
      if (family.type === "histogram") return family.collect(from).flatMap((each) => histogramValues(name, each));
      return family.collect(from).flatMap(sampleValues);
    };
    return { name, help, type, get: async () => ({ name, help, type, aggregator: "sum", values: values() }) };
  }
}

function sampleValues({ labels = {}, value }: Sample): MetricValue[] {
  return value === undefined ? [] : [{ labels, value }];
}

function histogramValues(name: string, { labels = {}, view, unit }: Distribution): MetricValue[] {
  let sum = 0;
  const buckets = view.counts.map((count, at): MetricValue => {
    sum += count;
    const bound = view.bounds[at];
    const le = bound === undefined ? "+Inf" : String(Number((bound * unit).toPrecision(6)));
    return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: sum };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: view.sum * unit },
    { metricName: `${name}_count`, labels, value: view.count },
  ];
}
