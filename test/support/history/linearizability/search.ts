import type { Operation } from "../history.js";
import { type Configuration, Configurations } from "./configuration.js";
import type { KeyHistory } from "./register.js";
import { covers, type Usage } from "./unknown_writes.js";

export type Found =
  | { readonly outcome: "ok"; readonly steps: number; readonly order: readonly Operation[] }
  /** `reached`: some order goes as far as to hold the operations that returned first, so many of them. */
  | { readonly outcome: "violation"; readonly steps: number; readonly reached: number }
  /** The step limit was reached. */
  | { readonly outcome: "unknown"; readonly steps: number };

/** Looks for a linear order of the operations on a key, which holds all known operations and any of the unknown ones. */
export function findLinearOrder(history: KeyHistory, stepLimit: number): Found {
  const search = new Search(history, stepLimit);
  try {
    const found = search.run();
    if (found === undefined) return { outcome: "violation", steps: search.steps, reached: search.reached };
    return { outcome: "ok", steps: search.steps, order: orderOf(found) };
  } catch (error) {
    if (!(error instanceof StepLimitReached)) throw error;
    return { outcome: "unknown", steps: search.steps };
  }
}

/** What the key can hold behind all known operations, with no more unknown writes than needed. Empty if the step limit was reached. */
export function statesAtEnd(history: KeyHistory, stepLimit: number): (string | null)[] {
  try {
    const states = new Search(history, stepLimit).statesAtEnd();
    return [...states].map((state) => history.valueOf(state));
  } catch (error) {
    if (!(error instanceof StepLimitReached)) throw error;
    return [];
  }
}

class StepLimitReached extends Error {}

/** A search that pauses after each configuration, and ends with one that is complete, or undefined if there is none. */
type Attempt = Generator<void, Configuration | undefined>;

/**
 * The search of Wing and Gong ("Testing and verifying concurrent objects", 1993), which remembers the configurations that it has seen, as
 * Lowe's does ("Testing for linearizability", 2017).
 */
class Search {
  steps = 0;
  reached = 0;
  readonly #configurations: Configurations;

  constructor(
    history: KeyHistory,
    private readonly stepLimit: number,
  ) {
    this.#configurations = new Configurations(history, () => {
      if (++this.steps > this.stepLimit) throw new StepLimitReached();
    });
  }

  /**
   * Searches in two ways by turns until one of them has ended. Each of them decides every history, but most that are linearizable are decided by
   * the first in hardly more steps than they have operations, and most that are not by the second in far fewer steps than by the first, which
   * comes to the same event again and again, with ever other unknown writes used.
   */
  run(): Configuration | undefined {
    const attempts = [this.#depthFirst(), this.#returnByReturn()];
    for (;;) {
      for (const attempt of attempts) {
        const { done, value } = attempt.next();
        if (done) return value;
      }
    }
  }

  statesAtEnd(): Set<number> {
    const states = new Set<number>();
    const attempt = this.#returnByReturn((complete) => states.add(complete.state));
    while (!attempt.next().done);
    return states;
  }

  *#depthFirst(): Attempt {
    const seen = new Seen(this.#configurations, false);
    // A stack of its own, since a path is as long as the history.
    const stack: Iterator<Configuration>[] = [[this.#configurations.start()].values()];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const { done, value } = top.next();
      if (done) {
        stack.pop();
        continue;
      }
      this.reached = Math.max(this.reached, value.event);
      if (this.#configurations.isComplete(value)) return value;
      if (seen.isNew(value)) stack.push(this.#configurations.next(value));
      yield;
    }
    return undefined;
  }

  /**
   * Takes all configurations of an event before those of the next one, and those that have used fewer unknown writes first: so whatever covers
   * another comes before it. Has `onComplete` told about every complete one, if given, instead of ending with the first.
   */
  *#returnByReturn(onComplete?: (complete: Configuration) => void): Attempt {
    const queue = new EventQueue();
    queue.add(this.#configurations.start());
    for (let ofEvent = queue.take(); ofEvent !== undefined; ofEvent = queue.take()) {
      const seen = new Seen(this.#configurations, onComplete !== undefined);
      for (const configuration of ofEvent) {
        this.reached = Math.max(this.reached, configuration.event);
        if (this.#configurations.isComplete(configuration)) {
          if (onComplete === undefined) return configuration;
          onComplete(configuration);
        } else if (seen.isNew(configuration)) {
          for (const next of this.#configurations.next(configuration)) {
            queue.add(next);
            yield;
          }
        }
      }
    }
    return undefined;
  }
}

/** The configurations that were seen, without those that others cover. */
class Seen {
  readonly #byKey = new Map<string, Usage[]>();

  constructor(
    private readonly configurations: Configurations,
    private readonly telling: boolean,
  ) {}

  /** Adds a configuration. Returns false if all that can follow it can follow one that was seen before. */
  isNew(configuration: Configuration): boolean {
    const key = this.configurations.keyOf(configuration, this.telling);
    const usage = this.configurations.usageOf(configuration);
    const same = this.#byKey.get(key) ?? [];
    if (same.some((seen) => covers(seen, usage))) return false;
    this.#byKey.set(key, [...same.filter((seen) => !covers(usage, seen)), usage]);
    return true;
  }
}

/** Configurations by their events, and for each by the number of unknown writes that they have used. */
class EventQueue {
  readonly #byEvent = new Map<number, Configuration[][]>();
  #event = -1;

  /** Events never fall, so none comes before the one that was taken last. */
  add(configuration: Configuration): void {
    const { event, usedCount } = configuration;
    const byCount = this.#byEvent.get(event) ?? [];
    this.#byEvent.set(event, byCount);
    byCount[usedCount] ??= [];
    byCount[usedCount].push(configuration);
  }

  /** The configurations of the next event that has any, also those that are added meanwhile; undefined when there is no such event. */
  take(): Iterable<Configuration> | undefined {
    this.#byEvent.delete(this.#event);
    if (this.#byEvent.size === 0) return undefined;
    do this.#event++;
    while (!this.#byEvent.has(this.#event));
    return ascending(this.#byEvent.get(this.#event)!);
  }
}

function* ascending(byCount: readonly (readonly Configuration[] | undefined)[]): Generator<Configuration> {
  for (let count = 0; count < byCount.length; count++) yield* byCount[count] ?? [];
}

function orderOf({ order }: Configuration): Operation[] {
  const operations: Operation[] = [];
  for (let last = order; last !== undefined; last = last.before) operations.push(last.operation);
  return operations.reverse();
}
