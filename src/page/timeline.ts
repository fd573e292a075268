import type { TimelineEntry } from "../node/measures/happenings.js";
import { byId, element } from "./dom.js";
import { bytes, clock, count, milliseconds } from "./text.js";

/** Entries that the page shows. */
const ENTRIES = 200;

/** Shows what happened, newest first. */
export class TimelineList {
  readonly #list = byId("timeline");

  begin(entries: readonly TimelineEntry[]): void {
    this.#list.replaceChildren();
    for (const entry of entries.slice(-ENTRIES)) this.add(entry);
  }

  add(entry: TimelineEntry): void {
    const time = element("time", { datetime: new Date(entry.unixMs).toISOString() }, clock(entry.unixMs));
    this.#list.prepend(element("li", { class: entry.kind }, time, element("span", {}, inWords(entry))));
    if (this.#list.childElementCount > ENTRIES) this.#list.lastElementChild?.remove();
  }
}

function inWords(entry: TimelineEntry): string {
  switch (entry.kind) {
    case "leader":
      return entry.leader === ""
        ? `no leader is known (term ${entry.term})`
        : `${entry.leader} leads (term ${entry.term})`;
    case "membership":
      return `members: ${entry.members.join(", ") || "none"}`;
    case "snapshot": {
      const { index, reason, durationMs, fileBytes } = entry;
      const what = reason === "installed" ? "snapshot installed" : `snapshot taken (${reason.replaceAll("_", " ")})`;
      return `${what} at ${count(index)}, ${bytes(fileBytes)} in ${milliseconds(durationMs)}`;
    }
    case "transfer":
      return `transfer to ${entry.to}: ${entry.outcome}`;
    case "warning":
      return entry.text;
    case "cleared":
      return `over: ${entry.text}`;
  }
}
