import uPlot from "uplot";
import { type ChartFigure, type ChartPoint, chartFigures } from "../monitor/feed/shown.js";
import { byId, element } from "./dom.js";
import { bytes, clock, count, milliseconds } from "./text.js";

/** A chart of one or two figures. */
interface Chart {
  readonly title: string;
  readonly figures: readonly (readonly [figure: ChartFigure, label: string])[];
  readonly text: (value: number) => string;
}

const CHARTS: readonly Chart[] = [
  { title: "Writes a second", figures: [["writes", "writes"]], text: count },
  { title: "Reads confirmed a second", figures: [["reads", "reads"]], text: count },
  {
    title: "Time of a write",
    figures: [
      ["writeP50", "p50"],
      ["writeP99", "p99"],
    ],
    text: milliseconds,
  },
  { title: "Sync of the log, p99", figures: [["syncP99", "sync"]], text: milliseconds },
  { title: "Log on disk", figures: [["logBytes", "log"]], text: bytes },
  { title: "Event loop delay, p99", figures: [["loopDelay", "delay"]], text: milliseconds },
  { title: "Committed and not applied", figures: [["lag", "entries"]], text: count },
  { title: "Memory", figures: [["memory", "memory"]], text: bytes },
];

/** Points of 15 minutes. */
const POINTS = 450;
const HEIGHT = 130;

/** The charts of the page. */
export class Charts {
  #points: ChartPoint[] = [];
  readonly #plots: { readonly plot: uPlot; readonly chart: Chart; readonly caption: HTMLElement }[];

  constructor() {
    const box = byId("charts");
    this.#plots = CHARTS.map((chart) => {
      const caption = element("span", { class: "soft" });
      const figure = element("figure", {}, element("figcaption", {}, element("span", {}, chart.title), caption));
      box.append(figure);
      return { chart, caption, plot: new uPlot(optionsOf(chart, box), [[], ...chart.figures.map(() => [])], figure) };
    });
    new ResizeObserver(() => this.#resize()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
  }

  begin(points: readonly ChartPoint[]): void {
    this.#points = [...points];
    this.#show();
  }

  add(point: ChartPoint): void {
    this.#points.push(point);
    if (this.#points.length > POINTS) this.#points.shift();
    this.#show();
  }

  #show(): void {
    const times = this.#points.map(([unixMs]) => unixMs / 1_000);
    for (const { plot, chart, caption } of this.#plots) {
      const columns = chart.figures.map(([figure]) => {
        const at = chartFigures.indexOf(figure) + 1;
        return this.#points.map((point) => point[at] ?? null);
      });
      plot.setData([times, ...columns]);
      const newest = chart.figures.map(([, label], at) => {
        const value = columns[at]?.findLast((each) => each !== null);
        return `${chart.figures.length > 1 ? `${label} ` : ""}${value === undefined || value === null ? "–" : chart.text(value)}`;
      });
      caption.textContent = newest.join(", ");
    }
  }

  #resize(): void {
    for (const { plot } of this.#plots) {
      const width = plot.root.parentElement?.clientWidth ?? 0;
      if (width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }

  #redraw(): void {
    for (const { plot } of this.#plots) plot.redraw();
  }
}

function optionsOf({ figures, text }: Chart, box: HTMLElement): uPlot.Options {
  const color = (name: string) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = {
    stroke: color("--soft"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui",
  };
  return {
    width: Math.max(200, Math.min(300, box.clientWidth)),
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(1e-9, (high ?? 1) * 1.1)] } },
    axes: [
      { ...axis, values: (_plot, times) => times.map((time) => clock(time * 1_000).slice(0, 5)) },
      { ...axis, size: 62, values: (_plot, values) => values.map((value) => text(value)) },
    ],
    series: [
      {},
      ...figures.map(([, label], at) => ({
        label,
        stroke: color(at === 0 ? "--committed" : "--uncommitted"),
        width: 1.5,
        points: { show: false },
        spanGaps: true,
      })),
    ],
  };
}
