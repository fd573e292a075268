import type { MemoryCursor } from "../memory/memory_cursor.js";
import type { MemoryTable } from "../memory/memory_table.js";
import type { LiveRecord } from "../reads.js";
import { recordKind } from "../record.js";
import { combinedFirst, combinedKind, settle } from "../rules/v1.js";
import { TableRange } from "../tables/range.js";
import { RecordReader } from "../tables/record_reader.js";
import type { Table } from "../tables/table.js";
import type { Floors } from "./floors.js";
import type { Levels, OpenRun } from "./levels.js";
import { MergeOrder, type Source } from "./merge_order.js";

interface SpanSource extends Source {
  /** Moves to the next record; false: there is none. */
  advance(): boolean;
}

/**
 * Yields the keys of a span that exist, in ascending order. `noted`: notes an error of a read, and
 * returns it.
 */
export function* rangeOf(
  memory: readonly MemoryTable[],
  levels: Levels,
  floors: Floors,
  atVersion: number,
  start: Uint8Array,
  end: Uint8Array | undefined,
  noted: (error: unknown) => unknown,
): Iterable<LiveRecord> {
  try {
    const order = orderOf(memory, levels, atVersion, start, end);
    const taken: SpanSource[] = [];
    for (let first = order.first; first !== undefined; first = order.first) {
      if (order.isFirstAlone) {
        taken.length = 0;
        taken.push(first);
        const record = liveRecord(taken, floors);
        if (record !== undefined) yield record;
        if (first.advance()) order.placeFirst();
        else order.dropFirst();
      } else {
        order.takeEqual(taken);
        const record = liveRecord(taken, floors);
        if (record !== undefined) yield record;
        for (const source of taken) if (source.advance()) order.insert(source);
      }
    }
  } catch (error) {
    throw noted(error);
  }
}

function orderOf(
  memory: readonly MemoryTable[],
  levels: Levels,
  atVersion: number,
  start: Uint8Array,
  end: Uint8Array | undefined,
): MergeOrder<SpanSource> {
  const order = new MergeOrder<SpanSource>();
  let age = 0;
  const add = (source: SpanSource) => {
    if (source.advance()) order.insert(source);
  };
  for (const table of memory) add(new MemorySource(table, table.cursor(start, end, atVersion), age++));
  for (const run of levels.runs) add(new RunSource(run, start, end, age++));
  return order;
}

/** Returns what the records of one key, the newest first, come to. */
function liveRecord(sources: readonly SpanSource[], floors: Floors): LiveRecord | undefined {
  const { reader } = sources[0]!;
  const firstByte = reader.bytes[reader.keyAt]!;
  if (floors.isDead(firstByte, reader.version)) return undefined;
  let { kind, first } = reader;
  for (let at = 1; at < sources.length && kind === recordKind.inherits; at++) {
    const older = sources[at]!.reader;
    if (floors.isDead(firstByte, older.version)) break;
    first = combinedFirst(kind, first, older.kind, older.first);
    kind = combinedKind(kind, older.kind);
  }
  if (settle(kind) !== recordKind.known) return undefined;
  return { key: reader.key, tag: reader.tag, version: reader.version, created: first, value: reader.value };
}

/** A memory table, from one key to another. */
class MemorySource extends RecordReader implements SpanSource {
  readonly reader = this;

  constructor(
    private readonly table: MemoryTable,
    private readonly cursor: MemoryCursor,
    readonly age: number,
  ) {
    super();
  }

  advance(): boolean {
    const place = this.cursor.next();
    if (place === 0) return false;
    const { table } = this;
    const key = table.keyOf(place);
    const value = table.valueOf(place);
    this.bytes = table.bytes;
    this.keyAt = key.byteOffset;
    this.keyBytes = key.byteLength;
    this.valueAt = value.byteOffset;
    this.valueBytes = value.byteLength;
    this.kind = table.kindOf(place);
    this.tag = table.tagOf(place);
    this.version = table.versionOf(place);
    this.first = table.firstOf(place);
    return true;
  }
}

/** The tables of a run, from one key to another. */
class RunSource implements SpanSource {
  readonly #start: Uint8Array;
  readonly #tables: readonly Table[];
  #at = 0;
  #range: TableRange | undefined;

  constructor(
    run: OpenRun,
    start: Uint8Array,
    private readonly end: Uint8Array | undefined,
    readonly age: number,
  ) {
    this.#start = run.low.length > 0 && Buffer.compare(run.low, start) > 0 ? run.low : start;
    this.#tables = run.tablesBetween(this.#start, end);
  }

  get reader(): RecordReader {
    return this.#range!;
  }

  advance(): boolean {
    for (;;) {
      if (this.#range?.advance()) return true;
      const table = this.#tables[this.#at++];
      if (table === undefined) return false;
      this.#range = new TableRange(table, this.#start, this.end);
    }
  }
}
