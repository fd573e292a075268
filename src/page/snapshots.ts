import type { Present, ShownSnapshot } from "../monitor/feed/shown.js";
import { byId, element, whenChanged } from "./dom.js";
import { bytes, count, duration } from "./text.js";

/** Shows the snapshots on the node's disk, newest first. */
export function showSnapshots({ snapshots, unixMs }: Present): void {
  const table = byId("snapshots");
  const rows = snapshots.map((snapshot) => cellsOf(snapshot, unixMs));
  whenChanged(table, rows, () => {
    const made = rows.map((cells) => element("tr", {}, ...cells.map((text) => element("td", {}, text))));
    const none = element("tr", {}, element("td", { colspan: 4, class: "soft" }, "none yet"));
    table.querySelector("tbody")?.replaceChildren(...(made.length > 0 ? made : [none]));
  });
}

function cellsOf({ index, bytes: size, unixMs, reason }: ShownSnapshot, nowMs: number): string[] {
  const age = unixMs === undefined ? "–" : duration(nowMs - unixMs);
  return [count(index), bytes(size), age, reason?.replaceAll("_", " ") ?? "from before the start"];
}
