import { CairnError, hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { ChangeBatch } from "./batch.js";
import type { Watch } from "./watch.js";
import { historyGone, oldestIndex, tooMuchAtOnce, type WatchHost } from "./watched_node.js";

/** The work that the watches behind share with the live ones. */
export interface WatchCatchUpEvents {
  /** The watch has everything up to the hub's index. */
  caughtUp(watch: Watch): void;
  ended(watch: Watch, error: CairnError): void;
  /** There is something to do again. */
  wake(): void;
}

/**
 * Serves the watches that are behind from the history, one part of it at a time, in turn. All of
 * them that are within a part are told of it. A watch whose stream is not ready waits, and nothing
 * waits for it.
 */
export class WatchCatchUp {
  /** In the order of their turns. */
  readonly #ready = new Set<Watch>();
  readonly #stalled = new Set<Watch>();
  #batch: ChangeBatch | undefined;
  #isReading = false;
  /** Watches that are still to be told of the batch. */
  #toServe: Watch[] = [];

  constructor(
    private readonly node: WatchHost,
    private readonly events: WatchCatchUpEvents,
  ) {}

  get stalled(): Iterable<Watch> {
    return this.#stalled;
  }

  /** Takes a watch that is behind from its `next` on. */
  add(watch: Watch, nowMs: number): void {
    watch.state = "behind";
    this.#place(watch, nowMs);
  }

  /** The stream of a watch is ready again. */
  resume(watch: Watch): void {
    if (!this.#stalled.delete(watch)) return;
    watch.stalledMs = undefined;
    this.#ready.add(watch);
  }

  remove(watch: Watch): void {
    this.#ready.delete(watch);
    this.#stalled.delete(watch);
  }

  /** Does a small part of the work, up to the index `through`; returns whether it did anything. */
  step(through: number, nowMs: number): boolean {
    const watch = this.#toServe.pop();
    if (watch !== undefined) {
      if (this.#ready.has(watch)) this.#serve(watch, this.#batch!, { through, nowMs });
      return true;
    }
    const [first] = this.#ready;
    if (first === undefined) {
      if (!this.#isReading) this.#batch = undefined;
      return false;
    }
    if (this.#isReading) return false;
    this.#begin(first, through);
    return true;
  }

  /** Begins the next part of the history, where this watch is. */
  #begin(watch: Watch, through: number): void {
    // Its next turn comes after all others.
    this.#ready.delete(watch);
    this.#ready.add(watch);
    const { next } = watch;
    if (next > through) {
      this.#ready.delete(watch);
      this.events.caughtUp(watch);
      return;
    }
    const oldest = oldestIndex(this.node);
    if (next < oldest) {
      this.events.ended(watch, historyGone(next, oldest));
      return;
    }
    if (this.#batch !== undefined && next >= this.#batch.first && next <= this.#batch.last) this.#found(this.#batch);
    else this.#read(watch, through);
  }

  #read(watch: Watch, through: number): void {
    const { appliedLog, machine } = this.node;
    const { next } = watch;
    const entries = appliedLog.recent(next, through, limits.watchBatchBytes);
    if (entries !== undefined) {
      this.#found(new ChangeBatch(entries, machine.history));
      return;
    }
    this.#isReading = true;
    void appliedLog
      .older(next, through, limits.watchBatchBytes)
      .then((read) => {
        // A load or an installed snapshot may have ended the history meanwhile.
        if (next >= oldestIndex(this.node)) this.#found(new ChangeBatch(read, machine.history));
      })
      .catch((error) => {
        // Trimmed meanwhile: the watch's next turn finds that out.
        const isTrimmed = hasCode(error, "OUT_OF_RANGE") && next < oldestIndex(this.node);
        if (!isTrimmed && watch.state === "behind") this.events.ended(watch, CairnError.from(error));
      })
      .finally(() => {
        this.#isReading = false;
        this.events.wake();
      });
  }

  #found(batch: ChangeBatch): void {
    this.#batch = batch;
    this.#toServe = [...this.#ready].filter(({ next }) => next >= batch.first && next <= batch.last);
  }

  /** Tells a watch of as much of the batch as it takes. */
  #serve(
    watch: Watch,
    batch: ChangeBatch,
    { through, nowMs }: { readonly through: number; readonly nowMs: number },
  ): void {
    for (const answer of batch.answersFor(watch.group, watch.next)) {
      if (!watch.sink.isReady) {
        this.#ready.delete(watch);
        this.#place(watch, nowMs);
        return;
      }
      if (answer.bytes === undefined) {
        this.events.ended(watch, tooMuchAtOnce(answer.first));
        return;
      }
      watch.sink.send(answer.bytes);
      // The stream may end the watch when it is sent something.
      if (watch.state !== "behind") return;
      watch.answeredMs = nowMs;
      watch.next = answer.through + 1;
    }
    watch.next = batch.last + 1;
    if (watch.next <= through) return;
    this.#ready.delete(watch);
    this.events.caughtUp(watch);
  }

  #place(watch: Watch, nowMs: number): void {
    if (watch.sink.isReady) {
      this.#ready.add(watch);
      return;
    }
    watch.stalledMs = nowMs;
    this.#stalled.add(watch);
  }
}
