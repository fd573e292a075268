import { RangeTree } from "./range_tree.js";
import type { WatchGroup } from "./watch_group.js";

/**
 * Finds the groups of watches that a changed key concerns. The cost of a look-up hardly depends on
 * the number of groups: exact keys and prefixes are in hash tables, and ranges in a tree.
 */
export class SpanIndex {
  readonly #keys = new Map<string, Set<WatchGroup>>();
  readonly #prefixes = new Map<string, Set<WatchGroup>>();
  /** Number of different prefixes of each length. */
  readonly #lengths = new Map<number, number>();
  readonly #ranges = new RangeTree<WatchGroup>();

  add(group: WatchGroup): void {
    const { target } = group;
    if (target.type === "range") this.#ranges.add(target, group);
    else if (target.type === "key") put(this.#keys, target.key, group);
    else if (put(this.#prefixes, target.prefix, group)) this.#count(target.prefix.length, 1);
  }

  remove(group: WatchGroup): void {
    const { target } = group;
    if (target.type === "range") this.#ranges.remove(target, group);
    else if (target.type === "key") take(this.#keys, target.key, group);
    else if (take(this.#prefixes, target.prefix, group)) this.#count(target.prefix.length, -1);
  }

  /** Returns the groups that watch a key, given as Latin-1 text. */
  find(key: string): WatchGroup[] {
    const found = [...(this.#keys.get(key) ?? [])];
    for (const length of this.#lengths.keys()) {
      if (length > key.length) continue;
      const groups = this.#prefixes.get(key.slice(0, length));
      if (groups !== undefined) found.push(...groups);
    }
    this.#ranges.find(key, found);
    return found;
  }

  #count(length: number, change: number): void {
    const count = (this.#lengths.get(length) ?? 0) + change;
    if (count === 0) this.#lengths.delete(length);
    else this.#lengths.set(length, count);
  }
}

/** Adds a group; returns whether it is the first one there. */
function put(map: Map<string, Set<WatchGroup>>, at: string, group: WatchGroup): boolean {
  const groups = map.get(at);
  groups?.add(group);
  if (groups === undefined) map.set(at, new Set([group]));
  return groups === undefined;
}

/** Removes a group; returns whether none is left there. */
function take(map: Map<string, Set<WatchGroup>>, at: string, group: WatchGroup): boolean {
  const groups = map.get(at);
  groups?.delete(group);
  if (groups?.size !== 0) return false;
  map.delete(at);
  return true;
}
