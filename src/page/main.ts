import type { ChartPoint, Hello, Present } from "../monitor/feed/shown.js";
import type { TimelineEntry } from "../node/measures/happenings.js";
import { actionButton, allowActions } from "./actions.js";
import { Browser } from "./browser.js";
import { Charts } from "./charts.js";
import { byId, define, element, whenChanged } from "./dom.js";
import { drawMembers } from "./lanes.js";
import { NodeFeed, signIn } from "./node_api.js";
import { showSnapshots } from "./snapshots.js";
import { count } from "./text.js";
import { TimelineList } from "./timeline.js";
import { TransferList } from "./transfers.js";

// Shows a cluster as one of its nodes sees it, live.

const charts = new Charts();
const timeline = new TimelineList();
const transfers = new TransferList();
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
  allowActions(message.mayAct);
  browser.begin(message.mayAct);
  charts.begin(message.points);
  timeline.begin(message.timeline);
});
on<ChartPoint>("point", (point) => charts.add(point));
on<TimelineEntry>("happening", (entry) => timeline.add(entry));
on<Present>("present", show);

byId("snapshot-actions").append(
  actionButton({
    label: "Take a snapshot",
    question: () => `Take a snapshot of ${hello?.node ?? "this node"} now?`,
    action: "snapshot",
  }),
);
setInterval(showConnection, 1_000);
signIn(() => {
  void feed.open();
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
  // Nothing that stays as it is is made anew: a reader may be in the middle of it.
  whenChanged(warnings, present.warnings, () => {
    warnings.querySelector("ul")?.replaceChildren(...present.warnings.map((text) => element("li", {}, text)));
  });
  drawMembers(present, hello?.node ?? "");
  showSnapshots(present);
  transfers.show(present.transfers);
  define(
    byId("held"),
    Object.entries(present.held).map(([name, value]) => [name.replaceAll("_", " "), count(value)]),
  );
  browser.changed(present.members.find(({ id }) => id === hello?.node)?.log?.applied ?? 0);
}
