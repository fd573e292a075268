import type { ChartPoint, Hello, Present, ShownSnapshot, ShownTransfer } from "../monitor/feed/shown.js";
import type { TimelineEntry } from "../node/measures/happenings.js";
import { actionButton } from "./actions.js";
import { Browser } from "./browser.js";
import { Charts } from "./charts.js";
import { byId, define, element } from "./dom.js";
import { drawMembers } from "./lanes.js";
import { NodeFeed, signIn } from "./node_api.js";
import { bytes, count, duration } from "./text.js";
import { TimelineList } from "./timeline.js";

// Shows a cluster as one of its nodes sees it, live.

const charts = new Charts();
const timeline = new TimelineList();
const browser = new Browser();

/** Time without a message after which the page says so, in ms. */
const SILENT_MS = 5_000;
let heardMs = performance.now();
let hello: Hello | undefined;
let problem = "";

const feed = new NodeFeed((text) => {
  problem = text;
  showConnection();
});

/** Handles one kind of message. */
function on<Message>(kind: string, handle: (message: Message) => void): void {
  feed.on<Message>(kind, (message) => {
    heardMs = performance.now();
    problem = "";
    handle(message);
    showConnection();
  });
}

on<Hello>("hello", (message) => {
  hello = message;
  document.title = `${message.node} · Cairn`;
  byId("node").textContent = message.node;
  charts.begin(message.points);
  timeline.begin(message.timeline);
});
on<ChartPoint>("point", (point) => charts.add(point));
on<TimelineEntry>("happening", (entry) => timeline.add(entry));
on<Present>("present", show);

byId("snapshot-actions").append(actionButton("Take a snapshot", "Take a snapshot of this node now?", "snapshot"));
setInterval(showConnection, 1_000);
signIn(() => {
  void feed.open();
  void browser.look();
});
void feed.open();

function showConnection(): void {
  const isSilent = performance.now() - heardMs > SILENT_MS;
  const silence = isSilent ? "The node does not answer: this page shows how it was." : "";
  byId("connection").textContent = byId("sign-in").hidden ? silence : problem;
}

function show(present: Present): void {
  define(byId("facts"), [
    ["cluster", hello?.cluster || "not founded yet"],
    ["leader", present.leader || "none"],
    ["term", count(present.term)],
    ["version", hello?.version ?? ""],
  ]);
  const warnings = byId("warnings");
  warnings.hidden = present.warnings.length === 0;
  warnings.querySelector("ul")?.replaceChildren(...present.warnings.map((text) => element("li", {}, text)));
  drawMembers(present, hello?.node ?? "");
  const rows = present.snapshots.map((snapshot) => snapshotRow(snapshot, present.unixMs));
  byId("snapshots")
    .querySelector("tbody")
    ?.replaceChildren(...(rows.length > 0 ? rows : [emptyRow()]));
  const transfers = present.transfers.map(transferItem);
  byId("transfers").replaceChildren(...(transfers.length > 0 ? transfers : [element("li", { class: "soft" }, "none")]));
  define(
    byId("held"),
    Object.entries(present.held).map(([name, value]) => [name.replaceAll("_", " "), count(value)]),
  );
}

function snapshotRow({ index, bytes: size, unixMs, reason }: ShownSnapshot, nowMs: number): HTMLElement {
  const cells = [count(index), bytes(size), duration(nowMs - unixMs), reason?.replaceAll("_", " ") ?? ""];
  return element("tr", {}, ...cells.map((text) => element("td", {}, text)));
}

function emptyRow(): HTMLElement {
  return element("tr", {}, element("td", { colspan: 4, class: "soft" }, "none yet"));
}

function transferItem({
  id,
  peer,
  direction,
  index,
  totalBytes,
  doneBytes,
  bytesPerSecond,
}: ShownTransfer): HTMLElement {
  const way = direction === "out" ? `to ${peer}` : `from ${peer}`;
  const left = bytesPerSecond > 0 ? `, ${duration(((totalBytes - doneBytes) / bytesPerSecond) * 1_000)} left` : "";
  const rate = bytesPerSecond > 0 ? `, ${bytes(bytesPerSecond)}/s` : "";
  const text = `snapshot ${count(index)} ${way}: ${bytes(doneBytes)} of ${bytes(totalBytes)}${rate}${left}`;
  const bar = element("progress", { max: Math.max(1, totalBytes), value: doneBytes, "aria-label": text });
  const cancel = actionButton("Cancel", `End this transfer? ${text}`, "cancel", id);
  return element("li", {}, text, bar, cancel);
}
