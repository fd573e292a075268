import uPlot from "uplot";
import { type ChartFigure, type ChartPoint, chartFigures } from "../monitor/feed/shown.js";
import { byId, element } from "./dom.js";
import { bytes, clock, count, milliseconds } from "./text.js";

/** A chart of one or two figures. */
interface Chart {
  readonly title: string;
  readonly figures: readonly (readonly [figure: ChartFigure, label: string])[];
  readonly unit: Unit;
}

/** A unit of the vertical axis. */
interface Unit {
  readonly text: (value: number) => string;
  /** Least value at the top of the axis. */
  readonly least: number;
  /** Steps between two lines of the grid; undefined: those of decimal numbers. */
  readonly steps?: number[];
}

const COUNT: Unit = { text: count, least: 4 };
const TIME: Unit = { text: milliseconds, least: 1 };
const BYTES: Unit = { text: bytes, least: 1_024, steps: Array.from({ length: 45 }, (_, power) => 2 ** power) };

const CHARTS: readonly Chart[] = [
  { title: "Writes a second", figures: [["writes", "writes"]], unit: COUNT },
  { title: "Reads confirmed a second", figures: [["reads", "reads"]], unit: COUNT },
  {
    title: "Write time",
    figures: [
      ["writeP50", "p50"],
      ["writeP99", "p99"],
    ],
    unit: TIME,
  },
  { title: "Sync of the log, p99", figures: [["syncP99", "sync"]], unit: TIME },
  { title: "Log on disk", figures: [["logBytes", "log"]], unit: BYTES },
  { title: "Event loop delay, p99", figures: [["loopDelay", "delay"]], unit: TIME },
  { title: "Committed and not applied", figures: [["lag", "entries"]], unit: COUNT },
  { title: "Memory", figures: [["memory", "memory"]], unit: BYTES },
];

/** Points of 15 minutes, and these in seconds. */
const POINTS = 450;
const SPAN_S = 900;
/** Height of a chart and of its text, in rem. */
const HEIGHT = 7.5;
const FONT = 0.72;

/** Colours of a chart's figures: the names of properties in page.css. */
const COLORS = ["committed", "uncommitted"] as const;

/** A chart on the page. */
interface Drawn {
  readonly plot: uPlot;
  readonly chart: Chart;
  /** Has the values under the pointer, or the newest ones. */
  readonly caption: HTMLElement;
}

/** The charts of the page. */
export class Charts {
  #points: ChartPoint[] = [];
  readonly #plots: Drawn[];

  constructor() {
    const box = byId("charts");
    this.#plots = CHARTS.map((chart) => {
      const caption = element("span", { class: "soft" });
      const figure = element("figure", {}, element("figcaption", {}, element("span", {}, chart.title), caption));
      box.append(figure);
      const options = optionsOf(chart, box, (plot) => this.#describe({ plot, chart, caption }));
      const plot = new uPlot(options, [[], ...chart.figures.map(() => [])], figure);
      // Its caption says the same in words.
      plot.root.setAttribute("aria-hidden", "true");
      return { chart, caption, plot };
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
    for (const drawn of this.#plots) {
      const { plot, chart } = drawn;
      const columns = chart.figures.map(([figure]) => {
        const at = chartFigures.indexOf(figure) + 1;
        return this.#points.map((point) => point[at] ?? null);
      });
      plot.setData([times, ...columns]);
      this.#describe(drawn);
    }
  }

  /** Writes a chart's values into its caption: those under the pointer, else the newest. */
  #describe({ plot, chart, caption }: Drawn): void {
    const at = plot.cursor.idx ?? undefined;
    const [times, ...columns] = plot.data;
    const parts = chart.figures.flatMap(([, label], number) => {
      const column = columns[number] ?? [];
      const value = at === undefined ? [...column].findLast((each) => each !== null) : column[at];
      const text = value === undefined || value === null ? "–" : chart.unit.text(value);
      const mark = element("span", { class: `swatch ${COLORS[number]}` });
      return chart.figures.length > 1 ? [mark, `${label} ${text} `] : [text];
    });
    const time = at === undefined ? undefined : times[at];
    caption.replaceChildren(...(time === undefined ? [] : [`${clock(time * 1_000)}: `]), ...parts);
  }

  #resize(): void {
    for (const { plot } of this.#plots) {
      const width = plot.root.parentElement?.clientWidth ?? 0;
      if (width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT * rem() });
    }
  }

  #redraw(): void {
    for (const { plot } of this.#plots) plot.redraw();
  }
}

function optionsOf({ figures, unit }: Chart, box: HTMLElement, onCursor: (plot: uPlot) => void): uPlot.Options {
  const color = (name: string) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = {
    stroke: color("--soft"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: `${FONT * rem()}px system-ui`,
  };
  return {
    width: Math.max(200, Math.min(300, box.clientWidth)),
    height: HEIGHT * rem(),
    legend: { show: false },
    // A line in all charts at the same time.
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false }, sync: { key: "time" } },
    hooks: { setCursor: [onCursor] },
    scales: {
      x: { range: (_plot, _first, last) => [(last ?? 0) - SPAN_S, last ?? 0] },
      y: { range: (_plot, _low, high) => [0, Math.max(unit.least, (high ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, size: 1.6 * rem(), values: (_plot, times) => times.map((time) => clock(time * 1_000).slice(0, 5)) },
      {
        ...axis,
        size: 4 * rem(),
        values: (_plot, values) => values.map((value) => unit.text(value)),
        ...(unit.steps && { incrs: unit.steps }),
      },
    ],
    series: [
      {},
      ...figures.map(([, label], at) => ({
        label,
        stroke: color(`--${COLORS[at]}`),
        width: 1.5,
        points: { show: false },
        spanGaps: true,
      })),
    ],
  };
}

/** The size of the page's text in pixels, which is larger on a larger screen. */
function rem(): number {
  return Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
}
