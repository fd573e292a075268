import type { MemoryTable } from "../memory/memory_table.js";
import type { LiveRecord, StoreReads } from "../reads.js";
import { type RecordKind, recordKind, type StoreRecord } from "../record.js";
import { combinedFirst, combinedKind, settle } from "../rules/v1.js";
import { filterHash } from "../tables/filter.js";
import { loadRange } from "../tables/range.js";
import { Floors } from "./floors.js";
import type { Levels } from "./levels.js";
import { rangeOf } from "./store_range.js";

const { known, inherits, only } = recordKind;

/** A record whose creation is not known until older tables have been asked. */
interface Unsettled {
  readonly record: StoreRecord;
  kind: RecordKind;
  first: number;
}

/**
 * Reads the state that memory tables and levels hold together, as of a version. What it reads, it
 * never changes.
 */
export class StoreReader implements StoreReads {
  readonly #floors: Floors;

  constructor(
    /** Newest first. */
    private readonly memory: readonly MemoryTable[],
    private readonly levels: Levels,
    /** Notes an error of a read, and returns it. */
    private readonly noted: (error: unknown) => unknown,
    private readonly atVersion = Number.MAX_SAFE_INTEGER,
  ) {
    const floors = [...levels.manifest.floors, ...memory.flatMap((table) => table.floors)];
    this.#floors = new Floors(floors, atVersion);
  }

  get(key: Uint8Array): LiveRecord | undefined {
    const state: { found: Unsettled | undefined } = { found: undefined };
    const isSettled = this.#getFromMemory(key, state) || this.#getFromLevels(key, state);
    const { found } = state;
    if (found === undefined) return undefined;
    if (!isSettled) found.kind = settle(found.kind);
    if (found.kind !== known && found.kind !== only) return undefined;
    const { tag, version, value } = found.record;
    return { key, tag, version, created: found.first, value };
  }

  range(start: Uint8Array, end: Uint8Array | undefined): Iterable<LiveRecord> {
    return rangeOf(this.memory, this.levels, this.#floors, this.atVersion, start, end, this.noted);
  }

  /**
   * Reads the pages that {@link get} will need into the cache; undefined when memory has them all.
   */
  load(key: Uint8Array): Promise<void> | undefined {
    if (this.levels.runs.length === 0) return undefined;
    for (const table of this.memory) {
      const place = table.find(key, this.atVersion);
      if (place !== 0 && table.kindOf(place) !== inherits) return undefined;
    }
    const hash = filterHash(this.levels.manifest.rules, key);
    const loading: Promise<void>[] = [];
    for (const run of this.levels.runs) {
      const reading = run.tableFor(key)?.load(key, hash);
      if (reading !== undefined) loading.push(reading);
    }
    return loading.length === 0 ? undefined : Promise.all(loading).then(() => {});
  }

  /** Reads the pages of a span into the cache, up to so many bytes. */
  async loadRange(start: Uint8Array, end: Uint8Array | undefined, mostBytes: number): Promise<void> {
    let left = mostBytes;
    for (const run of this.levels.runs) {
      const from = run.low.length > 0 && Buffer.compare(run.low, start) > 0 ? run.low : start;
      for (const table of run.tablesBetween(from, end)) {
        if (left <= 0) return;
        left -= await loadRange(table, from, end, left);
      }
    }
  }

  /** Returns whether nothing older needs to be asked. */
  #getFromMemory(key: Uint8Array, state: { found: Unsettled | undefined }): boolean {
    for (const table of this.memory) {
      const place = table.find(key, this.atVersion);
      if (place === 0) continue;
      if (this.#isDead(key, table.versionOf(place))) return false;
      if (this.#take(table.record(place), state, false)) return true;
    }
    return false;
  }

  #getFromLevels(key: Uint8Array, state: { found: Unsettled | undefined }): boolean {
    const { runs, manifest } = this.levels;
    if (runs.length === 0) return false;
    const hash = filterHash(manifest.rules, key);
    try {
      for (const run of runs) {
        const record = run.tableFor(key)?.find(key, hash);
        if (record === undefined) continue;
        if (this.#isDead(key, record.version)) return false;
        if (this.#take(record, state, true)) return true;
      }
    } catch (error) {
      throw this.noted(error);
    }
    return false;
  }

  /**
   * Takes the next older record of the key. Returns whether nothing older needs to be asked.
   * `isLent`: the bytes are lost with the next read.
   */
  #take(record: StoreRecord, state: { found: Unsettled | undefined }, isLent: boolean): boolean {
    const { found } = state;
    if (found === undefined) {
      const { kind, first } = record;
      const kept = isLent && kind === inherits ? { ...record, value: record.value.slice() } : record;
      state.found = { record: kept, kind, first };
      return kind !== inherits;
    }
    const first = combinedFirst(found.kind, found.first, record.kind, record.first);
    found.kind = combinedKind(found.kind, record.kind);
    found.first = first;
    return found.kind !== inherits;
  }

  /** Older records of the key are dead, too: versions ascend. */
  #isDead(key: Uint8Array, version: number): boolean {
    return !this.#floors.isEmpty && this.#floors.isDead(key[0]!, version);
  }
}
