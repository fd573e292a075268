import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { overLimit } from "../../base/telemetry/refusals.js";
import type { Clock } from "../../system/clock.js";
import { ChangeBatch, encodeProgress, type WatchAnswer } from "./batch.js";
import { WatchCatchUp } from "./catch_up.js";
import { SpanIndex } from "./span_index.js";
import { Watch, type WatchSink } from "./watch.js";
import { type WatchFilter, WatchGroup, type WatchTarget } from "./watch_group.js";
import { historyGone, oldestIndex, tooMuchAtOnce, type WatchHost } from "./watched_node.js";

/** A caller's wish to watch. */
export interface WatchWish {
  readonly target: WatchTarget;
  readonly filter: WatchFilter;
  /** First index to report; 0: the next one. */
  readonly start: number;
  readonly progressMs: number;
}

/** Tells a live watch of the changes of the batch that is being delivered. */
interface Delivery {
  readonly watch: Watch;
  /** First index of the batch. */
  readonly from: number;
  /** Empty: a progress mark. */
  readonly answers: readonly WatchAnswer[];
}

/** Bounds of the time between two looks at the clocks of the watches, in milliseconds. */
const LOOK_MS = { least: 50, most: 1_000 } as const;

/**
 * Tells the watches of a node of the changes that it applies. The node only wakes the hub; the hub
 * works in later turns of the event loop, in slices, with pauses. Live watches are told of one
 * batch of entries after the other; each group's answers are encoded once. A live watch whose
 * stream is not ready falls behind, and is served from the history: nothing is queued for it.
 */
export class WatchHub {
  readonly #groups = new Map<string, WatchGroup>();
  readonly #watches = new Set<Watch>();
  /** The groups with live watches. */
  readonly #index = new SpanIndex();
  readonly #catchUp: WatchCatchUp;
  #liveCount = 0;
  /** Watches that begin above the hub's index, by ascending `next`. */
  #future: Watch[] = [];
  /** Live watches have been, or are being, told of everything up to here. */
  #through = 0;
  #deliveries: Delivery[] = [];
  #delivered = 0;
  #isScheduled = false;
  /** Ends the timer of the clocks, and its period. */
  #stopLooking: (() => void) | undefined;
  #lookMs: number = LOOK_MS.most;
  #stopped: CairnError | undefined;
  readonly #stopListening: () => void;

  constructor(
    private readonly node: WatchHost,
    private readonly clock: Clock,
  ) {
    this.#catchUp = new WatchCatchUp(node, {
      caughtUp: (watch) => this.#placeUpToDate(watch),
      ended: (watch, error) => this.#end(watch, error),
      wake: () => this.#schedule(),
    });
    this.#stopListening = node.appliedLog.onAdvance(() => {
      if (this.#watches.size > 0) this.#schedule();
    });
  }

  /** Number of watches. */
  get size(): number {
    return this.#watches.size;
  }

  /**
   * Checks that a watch may begin, and returns its first index.
   * @throws CairnError BUSY, STOPPED, OUT_OF_RANGE
   */
  firstIndex(start: number): number {
    if (this.#stopped !== undefined) throw this.#stopped;
    if (this.#watches.size >= limits.watches) {
      const text = `this node serves ${limits.watches} watches (limit watches): ask another member, or try later`;
      throw overLimit("BUSY", "watches", text);
    }
    const { appliedIndex } = this.node.machine;
    if (start === 0) return appliedIndex + 1;
    const oldest = oldestIndex(this.node);
    if (start <= appliedIndex && start < oldest) throw historyGone(start, oldest);
    return start;
  }

  /**
   * Begins a watch; `wish.start` is its {@link firstIndex}. The caller has sent the first answer.
   */
  add({ target, filter, start, progressMs }: WatchWish, sink: WatchSink): Watch {
    if (this.#watches.size === 0) this.#through = this.node.machine.appliedIndex;
    const group = this.#groupOf(target, filter);
    const watch = new Watch(group, sink, { start, progressMs, nowMs: this.clock.now() });
    group.size++;
    this.#watches.add(watch);
    if (filter.previous) watch.stopKeeping = this.node.machine.history.keepRecords();
    sink.ready = () => {
      this.#catchUp.resume(watch);
      this.#schedule();
    };
    this.#place(watch);
    this.#lookWithin(progressMs / 2);
    this.#schedule();
    return watch;
  }

  /** Forgets a watch; may be called more than once. */
  remove(watch: Watch): void {
    if (!this.#watches.delete(watch)) return;
    const { group } = watch;
    if (watch.state === "live") this.#leaveLive(watch);
    else if (watch.state === "future") this.#future = this.#future.filter((each) => each !== watch);
    else this.#catchUp.remove(watch);
    watch.state = "ended";
    if (--group.size === 0) this.#groups.delete(WatchGroup.nameOf(group.target, group.filter));
    watch.stopKeeping?.();
    if (this.#watches.size > 0) return;
    // The next turn lets go of what is in memory for watches.
    this.#schedule();
    this.#stopLooking?.();
    this.#stopLooking = undefined;
    this.#lookMs = LOOK_MS.most;
  }

  /** Ends all watches with an error, and begins no more. */
  stop(error: CairnError): void {
    this.#stopped ??= error;
    this.#stopListening();
    this.#endAll(error);
  }

  #groupOf(target: WatchTarget, filter: WatchFilter): WatchGroup {
    const name = WatchGroup.nameOf(target, filter);
    let group = this.#groups.get(name);
    if (group === undefined) {
      group = new WatchGroup(target, filter);
      this.#groups.set(name, group);
    }
    return group;
  }

  /** Puts a watch to the others of its kind. */
  #place(watch: Watch): void {
    if (watch.next <= this.#through) this.#catchUp.add(watch, this.clock.now());
    else this.#placeUpToDate(watch);
  }

  #placeUpToDate(watch: Watch): void {
    const { group, next } = watch;
    if (next > this.#through + 1) {
      watch.state = "future";
      const at = this.#future.findIndex((each) => each.next > next);
      this.#future.splice(at < 0 ? this.#future.length : at, 0, watch);
      return;
    }
    watch.state = "live";
    if (group.live.size === 0) this.#index.add(group);
    group.live.add(watch);
    this.#liveCount++;
  }

  #leaveLive(watch: Watch): void {
    const { group } = watch;
    group.live.delete(watch);
    this.#liveCount--;
    if (group.live.size === 0) this.#index.remove(group);
  }

  #end(watch: Watch, error: CairnError): void {
    this.remove(watch);
    watch.sink.end(error);
  }

  #endAll(error: CairnError): void {
    for (const watch of [...this.#watches]) this.#end(watch, error);
    this.#deliveries = [];
    this.#delivered = 0;
  }

  #schedule(pauseMs = 0): void {
    if (this.#isScheduled || this.#stopped !== undefined) return;
    this.#isScheduled = true;
    const run = () => {
      this.#isScheduled = false;
      this.#turn();
    };
    if (pauseMs === 0) this.clock.soon(run);
    else this.clock.after(pauseMs, run, true);
  }

  /** Works for a while. */
  #turn(): void {
    const end = this.clock.now() + limits.watchSliceMs;
    try {
      while (this.#step()) {
        if (this.clock.now() < end) continue;
        this.#schedule(limits.watchPauseMs);
        return;
      }
    } catch (error) {
      this.#endAll(CairnError.from(error));
    }
  }

  /** Does a small part of the work; returns whether there was any. */
  #step(): boolean {
    if (this.#deliver()) return true;
    return this.#advance() || this.#catchUp.step(this.#through, this.clock.now());
  }

  #deliver(): boolean {
    const delivery = this.#deliveries[this.#delivered];
    if (delivery === undefined) return false;
    this.#delivered++;
    if (this.#delivered === this.#deliveries.length) {
      this.#deliveries = [];
      this.#delivered = 0;
    }
    const { watch, from, answers } = delivery;
    if (watch.state !== "live") return true;
    if (answers.length === 0) this.#sendProgress(watch);
    let next = from;
    for (const { first, through, bytes } of answers) {
      if (!watch.sink.isReady) {
        this.#fallBehind(watch, next);
        return true;
      }
      if (bytes === undefined) {
        this.#end(watch, tooMuchAtOnce(first));
        return true;
      }
      watch.sink.send(bytes);
      // The stream may end the watch when it is sent something.
      if (watch.state !== "live") return true;
      watch.answeredMs = this.clock.now();
      next = through + 1;
    }
    return true;
  }

  /** Takes the next applied entries to tell live watches of; returns whether there were any. */
  #advance(): boolean {
    const { appliedIndex } = this.node.machine;
    if (this.#through >= appliedIndex || this.#watches.size === 0) return false;
    const next = this.#through + 1;
    const oldest = oldestIndex(this.node);
    if (next < oldest) this.#skipTo(Math.min(oldest - 1, appliedIndex), oldest);
    else this.#take(next, Math.min(appliedIndex, (this.#future[0]?.next ?? Number.POSITIVE_INFINITY) - 1));
    this.#reachFuture();
    return true;
  }

  #take(first: number, last: number): void {
    if (this.#liveCount === 0) {
      this.#through = last;
      return;
    }
    const entries = this.node.appliedLog.recent(first, last, limits.watchBatchBytes);
    if (entries === undefined) {
      // The hub has had no time for so long that the entries are only on disk.
      for (const watch of this.#live()) this.#fallBehind(watch, first);
      this.#through = last;
      return;
    }
    const batch = new ChangeBatch(entries, this.node.machine.history);
    this.#through = batch.last;
    for (const [{ live }, answers] of batch.answersOf(this.#index)) {
      for (const watch of live) this.#deliveries.push({ watch, from: first, answers });
    }
  }

  /** The history has a gap up to `through`: a snapshot was installed, or a load applied. */
  #skipTo(through: number, oldest: number): void {
    const next = this.#through + 1;
    for (const watch of this.#live()) this.#end(watch, historyGone(next, oldest));
    this.#future = this.#future.filter((watch) => {
      if (watch.next > through) return true;
      watch.state = "behind";
      this.#end(watch, historyGone(watch.next, oldest));
      return false;
    });
    this.#through = through;
  }

  #reachFuture(): void {
    const reached = this.#future.filter(({ next }) => next <= this.#through + 1);
    if (reached.length === 0) return;
    this.#future = this.#future.slice(reached.length);
    for (const watch of reached) this.#placeUpToDate(watch);
  }

  #fallBehind(watch: Watch, next: number): void {
    this.#leaveLive(watch);
    watch.next = next;
    this.#catchUp.add(watch, this.clock.now());
  }

  #live(): Watch[] {
    return [...this.#watches].filter(({ state }) => state === "live");
  }

  #sendProgress(watch: Watch): void {
    const through = watch.state === "live" ? this.#through : watch.next - 1;
    if (!watch.sink.isReady) return;
    watch.sink.send(encodeProgress(through));
    watch.answeredMs = this.clock.now();
  }

  /** Makes sure that the hub looks at the clocks of the watches at least this often. */
  #lookWithin(ms: number): void {
    const wanted = Math.max(LOOK_MS.least, Math.min(ms, this.#lookMs));
    if (this.#stopLooking !== undefined && wanted >= this.#lookMs) return;
    this.#lookMs = wanted;
    this.#stopLooking?.();
    this.#stopLooking = this.clock.after(wanted, () => this.#look(), true);
  }

  /** Ends watches that take nothing, and sends progress marks. */
  #look(): void {
    this.#stopLooking = undefined;
    const nowMs = this.clock.now();
    this.#endSlow(nowMs);
    for (const watch of this.#watches) {
      if (nowMs - watch.answeredMs < watch.settings.progressMs) continue;
      // A live watch must first be told of the batch that is being delivered.
      if (watch.state === "live") this.#deliveries.push({ watch, from: this.#through + 1, answers: [] });
      else this.#sendProgress(watch);
    }
    if (this.#watches.size === 0) return;
    this.#lookWithin(this.#lookMs);
    this.#schedule();
  }

  #endSlow(nowMs: number): void {
    const oldest = oldestIndex(this.node);
    for (const watch of [...this.#catchUp.stalled]) {
      const isLeft = watch.next < oldest;
      if (!isLeft && nowMs - (watch.stalledMs ?? nowMs) < limits.watchStallMs) continue;
      const why = isLeft
        ? `the changes from index ${watch.next} on are no longer known here`
        : `it has taken nothing for ${limits.watchStallMs} ms (watchStallMs)`;
      const text = `the watch was not read fast enough, and ${why}: resume it after its last answer`;
      this.#end(watch, overLimit("SLOW_WATCHER", isLeft ? "effectBytes" : "watchStallMs", text));
    }
  }
}
