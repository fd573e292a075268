import type { Change } from "../../machine/kv/effects/changes.js";
import type { Watch } from "./watch.js";

/** The keys that a watch follows, as Latin-1 text. */
export type WatchTarget =
  | { readonly type: "key"; readonly key: string }
  /** An empty prefix is one of all keys. */
  | { readonly type: "prefix"; readonly prefix: string }
  | { readonly type: "range"; readonly start: string; readonly end: string | undefined };

/** A watch's answers, apart from their place in time. */
export interface WatchFilter {
  readonly previous: boolean;
  readonly noPuts: boolean;
  readonly noDeletes: boolean;
}

/** The watches of a node that get the same answers. */
export class WatchGroup {
  /** The watches that have everything up to the hub's index. */
  readonly live = new Set<Watch>();
  /** Number of all its watches. */
  size = 0;

  constructor(
    readonly target: WatchTarget,
    readonly filter: WatchFilter,
  ) {}

  /** Returns the text that tells groups apart. */
  static nameOf(target: WatchTarget, { previous, noPuts, noDeletes }: WatchFilter): string {
    return JSON.stringify([target, previous, noPuts, noDeletes]);
  }

  /** Returns whether the filter lets a change of a key of the target pass. */
  passes({ type }: Change): boolean {
    return type === "deleted" ? !this.filter.noDeletes : !this.filter.noPuts;
  }

  /** Returns whether the watches are to be told of a change of the key with this name. */
  wants(name: string, change: Change): boolean {
    return this.passes(change) && this.#holds(name);
  }

  #holds(name: string): boolean {
    const { target } = this;
    if (target.type === "key") return name === target.key;
    if (target.type === "prefix") return name.startsWith(target.prefix);
    return name >= target.start && (target.end === undefined || name < target.end);
  }
}
