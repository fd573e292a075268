import { channel } from "node:diagnostics_channel";
import { limits } from "../../base/limits.js";
import type { NodeHappening, TimelineEntry } from "./happenings.js";

/**
 * Channel of Node's `diagnostics_channel` on which each happening is published, with the name of
 * its node.
 */
const HAPPENING_CHANNEL = "cairn:happening";

const happenings = channel(HAPPENING_CHANNEL);

/** The newest happenings of a node, `limits.timelineEntries` at most. */
export class Timeline {
  readonly #entries: TimelineEntry[] = [];
  readonly #listeners = new Set<(entry: TimelineEntry) => void>();
  #number = 0;

  constructor(
    private readonly node: string,
    private readonly unixMs: () => number,
  ) {}

  /** Oldest first. */
  get entries(): readonly TimelineEntry[] {
    return this.#entries;
  }

  add(happening: NodeHappening): void {
    const entry = { ...happening, number: ++this.#number, unixMs: this.unixMs() };
    this.#entries.push(entry);
    if (this.#entries.length > limits.timelineEntries) this.#entries.shift();
    for (const listener of this.#listeners) listener(entry);
    if (happenings.hasSubscribers) happenings.publish({ node: this.node, ...entry });
  }

  /** Calls a listener with each entry from now on; returns a function that ends this. */
  follow(listener: (entry: TimelineEntry) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
