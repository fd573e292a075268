import { assertCount } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import { decodeEntry, decodeHardState } from "../../encoding/entry.js";
import { TermRanges } from "../../raft/term_ranges.js";
import type { Entry, HardState, LogPosition } from "../../raft/types.js";
import { decodeTrim } from "./batch.js";
import type { EntryTable } from "./entry_table.js";
import { RecordType } from "./record.js";
import { corruptLog, type SegmentHeader } from "./segment_header.js";
import type { ScannedRecord } from "./segment_scan.js";

// Rebuilds the log in memory while its segments are read.

/**
 * Stands for the term of the place before the oldest segment, until an entry or a trim tells it.
 * Real terms are higher.
 */
const UNKNOWN_TERM = 0;

/** A segment as a {@link Replay} sees it. */
export interface ReplayedSegment {
  readonly path: string;
  readonly header: SegmentHeader;
  /** The live entries. */
  readonly entries: Pick<EntryTable, "count" | "firstIndex" | "append" | "truncateFrom">;
}

/** Builds the log in memory from the headers and records of its segments. */
export class Replay<Segment extends ReplayedSegment> {
  readonly segments: Segment[] = [];
  #hardState: HardState;
  /** The logical start of the log. */
  #boundary: LogPosition;
  /**
   * Starts at the oldest place that the segments know of, which may be below the logical start, or
   * above it for a while.
   */
  #terms: TermRanges;
  /** Ascending. */
  #configurations: number[] = [];

  constructor(oldest: Segment) {
    const { header } = oldest;
    this.#hardState = header.hardState;
    this.#boundary = header.boundary;
    this.#terms = new TermRanges({ index: header.firstIndex - 1, term: header.previousTerm });
  }

  get hardState(): HardState {
    return this.#hardState;
  }

  /** Indexes of the configuration entries above the logical start, ascending. */
  get configurations(): readonly number[] {
    return this.#configurations.filter((index) => index > this.#boundary.index);
  }

  startSegment(segment: Segment): void {
    const { firstIndex, previousTerm, boundary, hardState } = segment.header;
    const last = this.#terms.last;
    if (firstIndex !== last.index + 1 || previousTerm !== last.term) {
      throw corruptLog(
        `${segment.path} continues after index ${firstIndex - 1} of term ${previousTerm}, but the segment before it ends at ` +
          `index ${last.index} of term ${last.term}`,
      );
    }
    this.segments.push(segment);
    this.#hardState = hardState;
    this.#boundary = boundary;
  }

  /** Replays the next record of the segment that was started last. */
  record(record: ScannedRecord): void {
    try {
      if (record.type === RecordType.entry) this.#entry(decodeEntry(record.payload), record);
      else if (record.type === RecordType.hardState) this.#hardState = decodeHardState(record.payload);
      else this.#trim(decodeTrim(record.payload));
    } catch (error) {
      const { path } = this.segments.at(-1)!;
      throw corruptLog(`${path}: the record at offset ${record.position} is invalid: ${CairnError.from(error).text}`);
    }
  }

  /**
   * Returns the terms of the whole log. `before`: segments that were left out. Throws CairnError
   * CORRUPT when a part of the log is missing.
   */
  finish(before: readonly string[]): TermRanges {
    const known = this.#terms.boundary;
    if (this.#boundary.index < known.index) {
      const found = before.length === 0 ? "" : ` (found before it, but not connected: ${before.join(", ")})`;
      throw corruptLog(
        `the log starts at index ${this.#boundary.index + 1}, but the oldest segment, ${this.segments[0]!.path}, continues after ` +
          `index ${known.index}: the segments in between are missing${found}`,
      );
    }
    return startingAt(this.#boundary, this.#terms);
  }

  /** Replays an entry. One at or below the last index replaces that entry and all behind it. */
  #entry(entry: Entry, { position, payloadBytes }: ScannedRecord): void {
    const { index, term } = entry;
    const last = this.#terms.last;
    if (index <= this.#boundary.index) throw senseless(`entry ${index} is below the log's start`);
    if (index > last.index + 1) throw senseless(`entry ${index} does not follow index ${last.index}`);
    if (index <= last.index) this.#truncateFrom(index);
    if (term < this.#terms.last.term) throw senseless(`the term falls at entry ${index}`);
    this.#terms.append(index, term);
    this.segments.at(-1)!.entries.append(index, position, payloadBytes);
    if (entry.type === "configuration") this.#configurations.push(index);
  }

  #truncateFrom(index: number): void {
    this.#configurations = this.#configurations.filter((configuration) => configuration < index);
    truncateSegments(this.segments, index);
    if (index > this.#terms.boundary.index) this.#terms.truncateAfter(index - 1);
    else this.#terms = new TermRanges({ index: index - 1, term: UNKNOWN_TERM });
  }

  #trim(position: LogPosition): void {
    const { index, term } = position;
    assertCount(index, "index");
    if (index < this.#boundary.index || index > this.#terms.last.index) {
      throw senseless(`a trim at ${index}, outside of the log`);
    }
    const known = this.#terms.termAt(index);
    if (known !== undefined && known !== UNKNOWN_TERM && known !== term) {
      throw senseless(`a trim at ${index} with term ${term}, where the entry has term ${known}`);
    }
    this.#boundary = position;
  }
}

/** Forgets the records of the entries from `index` on. */
export function truncateSegments(segments: readonly Pick<ReplayedSegment, "entries">[], index: number): void {
  for (let at = segments.length - 1; at >= 0; at--) {
    const { entries } = segments[at]!;
    const isLast = entries.count > 0 && entries.firstIndex < index;
    entries.truncateFrom(index);
    if (isLast) return;
  }
}

/** Returns the terms above `boundary`, and its own. */
function startingAt(boundary: LogPosition, terms: TermRanges): TermRanges {
  const result = new TermRanges(boundary);
  const { ranges, last } = terms;
  ranges.forEach((range, at) => {
    const end = ranges[at + 1]?.firstIndex ?? last.index + 1;
    if (end - 1 > boundary.index) result.extendTo(end - 1, range.term);
  });
  return result;
}

function senseless(text: string): CairnError {
  return new CairnError("CORRUPT", text);
}
