import { assert } from "../../base/assert.js";
import type { CairnError } from "../../base/errors.js";
import { decodeEntry } from "../../encoding/entry.js";
import { type Entry, entryBytes } from "../../raft/types.js";
import { plausibleHeader, RECORD_HEADER_BYTES, RecordType, recordBytes, recordIsIntact } from "./record.js";
import type { Segment } from "./segment.js";
import { corruptLog } from "./segment_header.js";

// Reads entries from the segments of the log.

/** One read takes at most this many bytes (or one record), so that memory stays bounded. */
const READ_BYTES_MAX = 4 * 1024 * 1024;
/** Dead records up to this size between live ones are read rather than skipped. */
const GAP_BYTES_MAX = 64 * 1024;

/** Record of an entry. */
interface EntryPlace {
  readonly index: number;
  readonly offset: number;
  /** Size of the whole record. */
  readonly bytes: number;
}

/** Records that one read takes, in ascending order. */
interface EntryRun {
  readonly segment: Segment;
  readonly places: EntryPlace[];
}

/**
 * Reads the entries from `low` to `high`: at least one, and stops before their {@link entryBytes}
 * exceed `maxBytes`. Looks up their records before the first wait, so that later appends,
 * truncations and trims do not matter. Throws CairnError CORRUPT when a record is damaged.
 */
export async function readEntries(
  segments: readonly Segment[],
  low: number,
  high: number,
  maxBytes: number,
): Promise<Entry[]> {
  const runs = planReads(segments, low, high, maxBytes);
  for (const run of runs) run.segment.retain();
  try {
    const entries: Entry[] = [];
    let left = maxBytes;
    for (const run of runs) {
      for (const entry of await readRun(run)) {
        left -= entryBytes(entry);
        if (left < 0 && entries.length > 0) return entries;
        entries.push(entry);
      }
    }
    return entries;
  } finally {
    for (const run of runs) run.segment.release();
  }
}

/**
 * Plans the reads of enough records, and few too many: an entry's payload is smaller than the bytes
 * that the entry counts for.
 */
function planReads(segments: readonly Segment[], low: number, high: number, maxBytes: number): EntryRun[] {
  const runs: EntryRun[] = [];
  let left = maxBytes;
  let index = low;
  for (const segment of segments) {
    const { entries } = segment;
    while (index <= high && index >= entries.firstIndex && index <= entries.lastIndex) {
      left -= entries.payloadBytesOf(index);
      if (left < 0 && index > low) return runs;
      const place = { index, offset: entries.offsetOf(index), bytes: recordBytes(entries.payloadBytesOf(index)) };
      const run = runs.at(-1);
      if (run?.segment === segment && fits(run, place)) run.places.push(place);
      else runs.push({ segment, places: [place] });
      index++;
    }
  }
  assert(index === high + 1, "the entries of the log are in its segments", { low, high, missing: index });
  return runs;
}

function fits(run: EntryRun, place: EntryPlace): boolean {
  const first = run.places[0]!;
  const last = run.places.at(-1)!;
  const gap = place.offset - (last.offset + last.bytes);
  return gap <= GAP_BYTES_MAX && place.offset + place.bytes - first.offset <= READ_BYTES_MAX;
}

async function readRun({ segment, places }: EntryRun): Promise<Entry[]> {
  const start = places[0]!.offset;
  const last = places.at(-1)!;
  const buffer = Buffer.allocUnsafeSlow(last.offset + last.bytes - start);
  const read = await segment.file.read(buffer, start);
  return places.map((place) => {
    const at = place.offset - start;
    const entry = at + place.bytes <= read ? entryAt(segment, buffer, at, place) : undefined;
    if (entry?.index !== place.index) throw damaged(segment, place);
    return entry;
  });
}

function entryAt(segment: Segment, buffer: Buffer, at: number, place: EntryPlace): Entry | undefined {
  const header = plausibleHeader(buffer, at, place.offset, place.offset + place.bytes);
  if (header?.type !== RecordType.entry || header.bytes !== place.bytes) return undefined;
  if (!recordIsIntact(buffer, at, place.bytes, { position: place.offset, seed: segment.seed })) return undefined;
  // A plain Uint8Array, as everywhere else; a part of a Buffer would be a Buffer.
  return decodeEntry(new Uint8Array(buffer.buffer, buffer.byteOffset + at + RECORD_HEADER_BYTES, header.payloadBytes));
}

function damaged(segment: Segment, place: EntryPlace): CairnError {
  return corruptLog(`${segment.path}: the record at offset ${place.offset} (entry ${place.index}) fails its CRC`);
}
