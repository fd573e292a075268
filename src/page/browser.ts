import type { ShownKey, ShownKeys, ShownLease, ShownLeases, ShownQueue } from "../monitor/feed/shown.js";
import { byId, element, whenChanged } from "./dom.js";
import { ask } from "./node_api.js";
import { bytes, count, duration } from "./text.js";

/** Least time between two looks at the keys that are shown, in ms. */
const LOOK_MS = 2_000;

/** Looks at the keys for one look at leases and locks, whose keep-alives change all the time. */
const LOOKS_A_LEASE_LOOK = 3;

/** Shows keys by prefix, live, and the leases and queues. */
export class Browser {
  readonly #prefix = byId("prefix") as HTMLInputElement;
  readonly #more = byId("more");
  /** The `after` of each page that is shown; the first is the start. */
  #starts: string[] = [""];
  /** Versions of the keys at the last look. */
  #versions = new Map<string, number>();
  #isLooking = false;
  /** Whether the keys are on the screen: nobody asks for those that nobody sees. */
  #isSeen = false;
  #hasBegun = false;
  #mayAct = false;
  /** Applied index that the feed has told, and that of the last look. */
  #applied = 0;
  #looked = -1;
  #looks = 0;

  constructor() {
    byId("keys-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#starts = [""];
      this.#versions.clear();
      void this.look();
    });
    this.#more.addEventListener("click", () => {
      this.#starts.push(this.#more.dataset.after ?? "");
      void this.look();
    });
    new IntersectionObserver(([entry]) => {
      this.#isSeen = entry?.isIntersecting === true;
      this.#lookIfChanged();
    }).observe(byId("browser"));
    setInterval(() => this.#lookIfChanged(), LOOK_MS);
  }

  /** Begins with a node: `mayAct` tells whether its user may see leases and locks. */
  begin(mayAct: boolean): void {
    this.#hasBegun = true;
    this.#mayAct = mayAct;
    this.#looked = -1;
    this.#looks = 0;
    this.#versions.clear();
    void this.look();
  }

  /** Tells the applied index of the node: without a change of it, no key has changed. */
  changed(applied: number): void {
    const isFirst = this.#looked < 0;
    this.#applied = applied;
    if (isFirst) this.#lookIfChanged();
  }

  #lookIfChanged(): void {
    // Not before the feed has told what the user may see.
    if (this.#isSeen && this.#hasBegun && !document.hidden && this.#applied !== this.#looked) void this.look();
  }

  /** Asks for everything that is shown. */
  async look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    this.#looked = this.#applied;
    const prefix = base64url(this.#prefix.value);
    const keys = Promise.all(this.#starts.map((after) => askFor<ShownKeys>(`keys?prefix=${prefix}&after=${after}`)));
    const shown = [keys.then((pages) => this.#show(pages))];
    if (this.#mayAct && this.#looks++ % LOOKS_A_LEASE_LOOK === 0)
      shown.push(askFor<ShownLeases>("leases").then(showLeases));
    const problems = await Promise.allSettled(shown);
    const failed = problems.findLast((each) => each.status === "rejected");
    if (failed !== undefined) byId("keys-note").textContent = (failed.reason as Error).message;
    this.#isLooking = false;
  }

  #show(answers: readonly (ShownKeys | undefined)[]): void {
    const pages = answers.flatMap((page) => page ?? []);
    const keys = pages.flatMap((page) => page.keys);
    const last = pages.at(-1);
    const isFirst = this.#versions.size === 0;
    const changed = new Set(keys.filter((key) => !isFirst && this.#versions.get(key.id) !== key.version));
    whenChanged(byId("keys"), [keys, changed.size], () => {
      fill(
        "keys",
        keys.map((key) => keyRow(key, changed.has(key))),
        6,
        false,
      );
    });
    this.#versions = new Map(keys.map(({ id, version }) => [id, version]));
    this.#more.hidden = last?.hasMore !== true;
    this.#more.dataset.after = keys.at(-1)?.id ?? "";
    byId("browser").hidden = last === undefined;
    byId("keys-note").textContent = `as of entry ${count(last?.appliedIndex ?? 0)}`;
  }
}

/** Shows leases and queues. */
function showLeases(shown: ShownLeases | undefined): void {
  if (shown === undefined) return;
  const { leases, queues, hasMore } = shown;
  whenChanged(byId("leases"), [leases, hasMore], () => fill("leases", leases.map(leaseRow), 4, hasMore));
  whenChanged(byId("queues"), queues, () => fill("queues", queues.map(queueRow), 5, false));
}

/** Returns an answer of the node; undefined when it shows no keys. */
async function askFor<Answer>(path: string): Promise<Answer | undefined> {
  const answer = await ask(path);
  return answer.status === 404 ? undefined : ((await answer.json()) as Answer);
}

function base64url(text: string): string {
  const binary = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fill(id: string, rows: readonly HTMLElement[], columns: number, hasMore: boolean): void {
  const end = rows.length === 0 ? "none" : hasMore ? "… and further ones" : undefined;
  const note = end === undefined ? [] : [element("tr", {}, element("td", { colspan: columns, class: "soft" }, end))];
  byId(id)
    .querySelector("tbody")
    ?.replaceChildren(...rows, ...note);
}

function row(cells: readonly string[], attributes: Readonly<Record<string, string>> = {}): HTMLElement {
  return element("tr", attributes, ...cells.map((text) => element("td", {}, text)));
}

function keyRow(
  { key, preview, bytes: size, version, createVersion, lease }: ShownKey,
  hasChanged: boolean,
): HTMLElement {
  const cells = [
    key,
    preview,
    bytes(size),
    count(version),
    count(createVersion),
    lease === undefined ? "" : count(lease),
  ];
  return row(cells, hasChanged ? { class: "changed" } : {});
}

function queueRow({ kind, name, holder, token, waiting }: ShownQueue): HTMLElement {
  return row([kind, name, holder, count(token), count(waiting)]);
}

function leaseRow({ id, ttlMs, keepAlives, keys }: ShownLease): HTMLElement {
  return row([count(id), duration(ttlMs), count(keepAlives), count(keys)]);
}
