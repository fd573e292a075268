import { compareSpans } from "../bytes.js";
import type { Table } from "../tables/table.js";
import type { Manifest } from "./manifest.js";

/** A run whose tables are open. */
export class OpenRun {
  constructor(
    /** Keys below this one are dead. */
    readonly low: Uint8Array,
    readonly tables: readonly Table[],
  ) {}

  /** Returns the only table that may hold a key. */
  tableFor(key: Uint8Array): Table | undefined {
    const { low, tables } = this;
    if (low.length > 0 && compare(key, low) < 0) return undefined;
    if (tables.length === 1) return tables[0];
    const at = this.#lastFrom(key);
    return at < 0 ? undefined : tables[at];
  }

  /** Returns the tables that may hold keys from `start` on, and below `end`. */
  tablesBetween(start: Uint8Array, end: Uint8Array | undefined): Table[] {
    const from = Math.max(0, this.#lastFrom(start));
    const found: Table[] = [];
    for (const table of this.tables.slice(from)) {
      if (end !== undefined && compare(table.info.first, end) >= 0) break;
      if (compare(table.info.last, start) >= 0) found.push(table);
    }
    return found;
  }

  /** Returns the place of the last table whose first key is not above a key; -1: there is none. */
  #lastFrom(key: Uint8Array): number {
    const { tables } = this;
    let [low, high] = [-1, tables.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (compare(tables[middle]!.info.first, key) <= 0) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** The tables of a manifest, open. Shared by those who read them: the last one lets go of them. */
export class Levels {
  #users = 1;

  constructor(
    readonly manifest: Manifest,
    /** In the order in which a reader looks into them: newest first. */
    readonly runs: readonly OpenRun[],
    private readonly letGo: () => void,
  ) {}

  /** Adds a user, who releases it. */
  retain(): void {
    this.#users += 1;
  }

  release(): void {
    this.#users -= 1;
    if (this.#users === 0) this.letGo();
  }
}

function compare(a: Uint8Array, b: Uint8Array): number {
  return compareSpans(a, 0, a.length, b, 0, b.length);
}
