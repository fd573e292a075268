import { channel } from "node:diagnostics_channel";
import { limits } from "../../base/limits.js";

/** Something that happened to a node and that an operator wants to see afterwards. */
export type NodeHappening =
  /** The node follows another leader, or none (leader ""). */
  | { readonly kind: "leader"; readonly leader: string; readonly term: number; readonly role: string }
  | { readonly kind: "membership"; readonly index: number; readonly members: readonly string[] }
  | {
      readonly kind: "snapshot";
      readonly index: number;
      /** One of `SnapshotReason`. */
      readonly reason: string;
      readonly durationMs: number;
      readonly fileBytes: number;
    }
  | { readonly kind: "transfer"; readonly to: string; readonly outcome: "installed" | "ahead" | "failed" }
  | { readonly kind: "warning"; readonly text: string }
  /** A warning no longer holds. */
  | { readonly kind: "cleared"; readonly text: string };

/** A happening with its place in the order of all, and its time. */
export type TimelineEntry = NodeHappening & {
  /** 1 for the first one since the node started; no number is left out. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly unixMs: number;
};

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
