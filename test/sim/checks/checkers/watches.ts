import { fromBinary } from "@bufbuild/protobuf";
import { type WatchEvent, WatchResponseSchema } from "../../../../gen/cairn/v1/kv_pb.js";
import { CairnError } from "../../../../src/base/errors.js";
import type { Entry } from "../../../../src/raft/types.js";
import { WatchHub } from "../../../../src/server/watch/hub.js";
import type { Watch, WatchSink } from "../../../../src/server/watch/watch.js";
import type { WatchTarget } from "../../../../src/server/watch/watch_group.js";
import { oldestIndex } from "../../../../src/server/watch/watched_node.js";
import type { SimCluster } from "../../world/cluster.js";
import type { SimNode } from "../../world/node.js";
import type { SimRandom } from "../../world/random.js";
import { type Checker, demand, type Observed } from "./checker.js";
import { type ToldChange, TrueChanges } from "./true_changes.js";

/** The hub of a process, and those who watch there. */
interface Served {
  readonly node: Observed;
  readonly hub: WatchHub;
  readonly here: Set<Watcher>;
  /** The process is gone, or no longer serves: what its hub still tells reaches nobody. */
  isOver: boolean;
}

const FILTER = { previous: false, noPuts: false, noDeletes: false };
const TARGETS: readonly WatchTarget[] = [
  { type: "prefix", prefix: "" },
  { type: "prefix", prefix: "k" },
  { type: "range", start: "", end: "k2" },
];
/** Longest pauses in simulated milliseconds: before somebody watches again, and of somebody who reads slowly. */
const AWAY_MS = 800;
const SLOW_MS = 500;

/**
 * Watches, served by the real hub on each node: watchers move from node to node, and go on after what they were told last. Each answer tells
 * exactly what has changed at the indexes that it covers: nothing is missing, twice, out of order, split, or not committed.
 */
export class Watches implements Checker {
  readonly #changes: TrueChanges;
  readonly #served = new Map<SimNode, Served>();
  readonly #watchers: readonly Watcher[];

  constructor(
    readonly cluster: SimCluster,
    readonly clusterId: string,
  ) {
    this.#changes = new TrueChanges(cluster.weather.sessions);
    const random = cluster.random.fork(`watches of ${clusterId}`);
    // Two for each target: they share their answers when they are at one node.
    const targets = [...TARGETS, ...TARGETS];
    this.#watchers = targets.map((target, at) => new Watcher(this, target, random.fork(`${at}`)));
  }

  get changes(): TrueChanges {
    return this.#changes;
  }

  get running(): readonly Served[] {
    return [...this.#served.values()];
  }

  started(node: Observed): void {
    const hub = new WatchHub(node.cairn, node.place.clock.view());
    this.#served.set(node.place, { node, hub, here: new Set(), isOver: false });
    for (const watcher of this.#watchers) watcher.comeSoon();
  }

  ended(place: SimNode): void {
    const served = this.#served.get(place);
    this.#served.delete(place);
    if (served !== undefined) served.isOver = true;
    for (const watcher of served?.here ?? []) watcher.wasCutOff();
  }

  applied(_: SimNode, entries: readonly Entry[]): void {
    this.#changes.add(entries);
  }

  /** Whether all who watch have been told of everything that their nodes have applied. */
  get knowAll(): boolean {
    return this.running.every(({ node, here }) => [...here].every((watcher) => watcher.knowsAll(node)));
  }

  /** The cluster has come to rest: somebody who watches at a node that runs knows all that this node has applied. */
  finished(): void {
    for (const { node, here } of this.running) for (const watcher of here) watcher.hasAll(node);
  }

  get isExcused(): boolean {
    return this.cluster.checks.isExcused(this.clusterId);
  }
}

/** Somebody who watches some keys, at one node after the other. */
class Watcher {
  /** Everything up to here was told; undefined before the first answer. */
  #through: number | undefined;
  #at: { readonly served: Served; readonly watch: Watch } | undefined;
  #isComing = false;

  constructor(
    private readonly watches: Watches,
    private readonly target: WatchTarget,
    private readonly random: SimRandom,
  ) {}

  /** Watches somewhere before long. */
  comeSoon(): void {
    if (this.#isComing || this.#at !== undefined) return;
    this.#isComing = true;
    this.watches.cluster.scheduler.after(this.random.between(0, AWAY_MS), undefined, "somebody watches", () => {
      this.#isComing = false;
      if (this.#at === undefined && this.watches.running.length > 0)
        this.#begin(this.random.pick(this.watches.running));
    });
  }

  wasCutOff(): void {
    this.#at = undefined;
    this.comeSoon();
  }

  knowsAll({ cairn }: Observed): boolean {
    return this.#missing(cairn.machine.appliedIndex) === undefined;
  }

  hasAll({ place, cairn }: Observed): void {
    const missing = this.#missing(cairn.machine.appliedIndex);
    demand(missing === undefined, "a watch is told of all that was committed", {
      node: place.id,
      through: this.#through,
      ...missing,
    });
  }

  /** Returns the first changes up to an index that were not told. */
  #missing(last: number): { readonly index: number; readonly missing: readonly string[] } | undefined {
    for (let index = (this.#through ?? 0) + 1; index <= last; index++) {
      const missing = this.watches.changes.at(index).filter((change) => this.#wants(change));
      if (missing.length > 0) return { index, missing };
    }
    return undefined;
  }

  #begin(served: Served): void {
    const { hub, here, node } = served;
    const next = this.#through === undefined ? 0 : this.#through + 1;
    try {
      const start = hub.firstIndex(next);
      if (this.#through === undefined) this.#through = start - 1;
      const sink = new SimSink(this.random, this.watches.cluster, node.place, {
        told: (answer) => this.#told(answer, served),
        ended: (error) => this.#ended(error, served),
      });
      const wish = { target: this.target, filter: FILTER, start, progressMs: this.random.whole(200, 2_000) };
      this.#at = { served, watch: hub.add(wish, sink) };
      here.add(this);
    } catch (error) {
      this.#refused(CairnError.from(error), served);
    }
  }

  #told(answer: Buffer, served: Served): void {
    const { cluster, changes, isExcused } = this.watches;
    if (isExcused || served.isOver) return;
    demand(this.#at?.served === served, "a watch that was ended is told of nothing", { node: served.node.place.id });
    const { events, through: told } = fromBinary(WatchResponseSchema, answer);
    const [before, through] = [this.#through!, Number(told)];
    const facts = { node: served.node.place.id, before, through };
    demand(through >= before, "what a watch is told never goes back", facts);
    if (events.length > 0) demand(through <= changes.last, "a watch is told of what is applied", facts);
    const wanted: string[] = [];
    for (let index = before + 1; index <= Math.min(through, changes.last); index++) {
      for (const change of changes.at(index)) if (this.#wants(change)) wanted.push(`${index} ${change}`);
    }
    const given = inOrder(events.map(shown));
    const isSame = given.length === wanted.length && given.every((event, at) => event === wanted[at]);
    demand(isSame, "an answer of a watch has the changes of its indexes, each once", { ...facts, given, wanted });
    for (const [at, { index }] of events.entries()) {
      demand(at === 0 || index >= events[at - 1]!.index, "changes are told in order", { ...facts, index: `${index}` });
    }
    this.#through = through;
    cluster.count("changes told to a watch", events.length);
    if (this.random.chance(0.03)) this.#leave();
  }

  #leave(): void {
    const at = this.#at;
    if (at === undefined) return;
    at.served.hub.remove(at.watch);
    at.served.here.delete(this);
    this.wasCutOff();
  }

  #ended(error: CairnError, served: Served): void {
    if (served.isOver) return;
    served.here.delete(this);
    this.#at = undefined;
    this.#refused(error, served);
  }

  #refused(error: CairnError, { node }: Served): void {
    const { cluster, isExcused } = this.watches;
    if (isExcused) return;
    const { code, oldestIndex: oldest } = error;
    cluster.count(`a watch ended with ${code}`);
    const isLate = code === "SLOW_WATCHER" || code === "STOPPED";
    if (code === "OUT_OF_RANGE") {
      const next = (this.#through ?? 0) + 1;
      const facts = { node: node.place.id, next, oldest, really: oldestIndex(node.cairn) };
      demand(oldest !== undefined && next < oldest, "a watch ends only when its history is gone", facts);
      // It reads the keys, as it were.
      this.#through = oldest - 1;
    } else if (!isLate && node.place.damage === undefined && !node.place.expectsStorageFailure) {
      cluster.fail("a watch ends only for a reason that it was given", String(error));
    }
    this.comeSoon();
  }

  #wants(change: ToldChange): boolean {
    const name = change.replace(/^[+-]/, "").replace(/=.*$/s, "");
    const { target } = this;
    if (target.type === "key") return name === target.key;
    if (target.type === "prefix") return name.startsWith(target.prefix);
    return name >= target.start && (target.end === undefined || name < target.end);
  }
}

/** A stream whose reader is slow now and then. */
class SimSink implements WatchSink {
  isReady = true;
  ready: () => void = () => {};

  constructor(
    private readonly random: SimRandom,
    private readonly cluster: SimCluster,
    private readonly place: SimNode,
    private readonly reader: { told(answer: Buffer): void; ended(error: CairnError): void },
  ) {}

  send(answer: Buffer): void {
    this.#guard(() => this.reader.told(answer));
    if (!this.random.chance(0.3)) return;
    this.isReady = false;
    this.cluster.scheduler.after(this.random.between(0, SLOW_MS), this.place, "a watcher reads on", () => {
      this.isReady = true;
      this.ready();
    });
  }

  end(error: CairnError): void {
    this.#guard(() => this.reader.ended(error));
  }

  /** What the hub calls must not throw into it. */
  #guard(look: () => void): void {
    try {
      look();
    } catch (error) {
      this.cluster.checks.fail(error);
    }
  }
}

function shown({ index, kv, deleted }: WatchEvent): string {
  const name = Buffer.from(kv!.key).toString("latin1");
  if (deleted) return `${index} -${name}`;
  return `${index} ${kv!.createVersion === 0n ? "" : "+"}${name}=${Buffer.from(kv!.value).toString("latin1")}`;
}

/** Sorts the changes of each index, which stay where they are. */
function inOrder(events: readonly string[]): string[] {
  const indexOf = (event: string) => Number(event.slice(0, event.indexOf(" ")));
  const rest = (event: string) => event.slice(event.indexOf(" ") + 1);
  return [...events].sort((a, b) => indexOf(a) - indexOf(b) || (rest(a) < rest(b) ? -1 : rest(a) > rest(b) ? 1 : 0));
}
