import type { Present, ShownLog, ShownMember } from "../monitor/feed/shown.js";
import { actionButton } from "./actions.js";
import { byId, element, shape } from "./dom.js";
import { bytes, count } from "./text.js";

// Draws each member's log, all to one scale of indexes.

const WIDTH = 1_000;
const HEIGHT = 26;

/** The range of indexes that is shown. */
interface Scale {
  readonly first: number;
  readonly last: number;
}

const lanes = new Map<string, Lane>();

/** Draws the members as the node `self` sees them. */
export function drawMembers({ members, leader }: Present, self: string): void {
  const scale = scaleOf(members);
  const ids = members.map(({ id }) => id);
  // A lane stays where it is while its member does: nobody's button goes away under the pointer.
  if (ids.join() !== [...lanes.keys()].join()) {
    lanes.clear();
    for (const id of ids) lanes.set(id, new Lane(id));
    byId("members").replaceChildren(...[...lanes.values()].map(({ element: item }) => item));
  }
  for (const member of members) lanes.get(member.id)?.show(member, scale, leader === self && member.id !== self);
  byId("scale").textContent = `Indexes ${count(scale.first)} to ${count(scale.last)}`;
}

/** One member: its name, and its log. */
class Lane {
  readonly element: HTMLElement;
  readonly #about = element("div");
  readonly #drawing = element("div", { class: "lane" });
  readonly #button: HTMLElement;

  constructor(id: string) {
    this.#button = actionButton({
      label: "Let it lead",
      spoken: `Let it lead: ${id}`,
      question: () => `Hand leadership over to ${id}?`,
      action: "lead",
      about: id,
    });
    const name = element("div", { class: "lane-name" }, this.#about, this.#button);
    this.element = element("li", {}, name, this.#drawing);
  }

  show(member: ShownMember, scale: Scale, mayLead: boolean): void {
    const { id, address, kind, role, log, progress, verdict, reason } = member;
    const isFit = verdict === "healthy";
    this.#about.replaceChildren(
      element("strong", {}, id),
      element("span", { class: `role ${role ?? "absent"}` }, role ?? "no answer"),
      ...(kind === "voter" ? [] : [" ", element("span", { class: "role" }, kind)]),
      element("div", { class: "soft" }, address),
      ...(isFit ? [] : [element("div", { class: "verdict" }, reason || verdict.replaceAll("_", " "))]),
    );
    this.#button.hidden = !mayLead || kind !== "voter";
    if (log === undefined) {
      this.#drawing.replaceChildren();
      return;
    }
    const words = inWords(member, log);
    this.#drawing.replaceChildren(
      draw(log, progress, scale, `log of ${id}: ${words}`),
      element("div", { class: "soft" }, words),
    );
  }
}

/** Shows some of what is trimmed, so that the trimming is seen when it happens. */
function scaleOf(members: readonly ShownMember[]): Scale {
  const logs = members.flatMap(({ log }) => log ?? []);
  const last = Math.max(1, ...logs.map((log) => log.last));
  const first = Math.min(last, ...logs.map((log) => Math.min(log.first, log.snapshot || log.first)));
  return { first: Math.max(1, Math.floor(first - (last - first) * 0.08)), last };
}

function inWords({ term, progress }: ShownMember, log: ShownLog): string {
  const behind = progress === undefined ? "" : `, match ${count(progress.match)}, ${progress.state}`;
  return (
    `term ${term ?? 0}, entries ${count(log.first)} to ${count(log.last)}, committed ${count(log.commit)}, ` +
    `applied ${count(log.applied)}, snapshot ${count(log.snapshot)}${behind}; ${bytes(log.bytes)} in ${log.segments} ${log.segments === 1 ? "file" : "files"}`
  );
}

function draw(log: ShownLog, progress: ShownMember["progress"], scale: Scale, label: string): SVGElement {
  const x = (index: number) => ((index - scale.first) / Math.max(1, scale.last - scale.first)) * WIDTH;
  const bar = (name: string, from: number, to: number) => {
    const left = Math.max(0, x(from));
    const width = Math.min(WIDTH, x(to)) - left;
    return width <= 0 ? [] : [shape("rect", { class: name, x: left, y: 6, width: Math.max(1, width), height: 14 })];
  };
  const mark = (name: string, at: number, top: number, height: number) =>
    at < scale.first ? [] : [shape("rect", { class: name, x: Math.min(WIDTH - 3, x(at)), y: top, width: 3, height })];
  const start = log.first - 1;
  return shape(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    shape("rect", { class: "track", x: 0.5, y: 6.5, width: WIDTH - 1, height: 13 }),
    ...bar("trimmed", scale.first, start),
    ...bar("kept", start, Math.max(start, Math.min(log.snapshot, log.last))),
    ...bar("committed", Math.max(start, log.snapshot), log.commit),
    ...bar("uncommitted", Math.max(start, log.commit), log.last),
    ...mark("snapshot", log.snapshot, 0, HEIGHT),
    ...(progress === undefined ? [] : [...mark("match", progress.match, 0, 6), ...mark("next", progress.next, 20, 6)]),
  );
}
