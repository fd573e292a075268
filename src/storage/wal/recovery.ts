import { assert } from "../../base/assert.js";
import { CairnError } from "../../base/errors.js";
import type { TermRanges } from "../../raft/term_ranges.js";
import type { HardState, LogPosition } from "../../raft/types.js";
import type { File } from "../../system/fs.js";
import { DAMAGED_MEMBER } from "../advice.js";
import { Replay } from "./replay.js";
import { Segment, type SegmentOptions, zeros } from "./segment.js";
import {
  corruptLog,
  decodeSegmentHeader,
  headerCrc,
  parseSegmentName,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  TEMPORARY_SUFFIX,
} from "./segment_header.js";
import { SegmentScan } from "./segment_scan.js";

// Opens the log after a stop or a crash: reads its segments, judges them, and repairs the end.

/** A log as it was found and repaired. */
export interface RecoveredLog {
  /** Oldest first; the last one is written to. */
  readonly segments: Segment[];
  readonly terms: TermRanges;
  readonly hardState: HardState;
  /** Indexes of the configuration entries, ascending. */
  readonly configurations: readonly number[];
  /** Bytes of a write that the crash interrupted; they were wiped out. */
  readonly tornBytes: number;
}

/** A segment file before its records are read. */
interface FoundSegment {
  readonly path: string;
  readonly file: File;
  readonly fileBytes: number;
  readonly header: SegmentHeader;
  readonly seed: number;
  readonly changedUnixMs: number | undefined;
}

/** Findings of {@link replaySegments} about the log and its end. */
interface Replayed {
  readonly replay: Replay<Segment>;
  /** End of the last segment's records that were durable once, as later records say. */
  readonly proven: number;
  /** Bytes behind the last segment's records that are not zero. */
  readonly tornBytes: number;
}

/**
 * Reads a log and repairs its end. All of it is durable on return, even bytes that the last process
 * had not synced. Throws CairnError DATA_DIRECTORY when there is no log, CORRUPT when the log
 * cannot be trusted; nothing on the disk has changed then.
 */
export async function recoverLog(options: SegmentOptions): Promise<RecoveredLog> {
  const names = await listLog(options);
  const found: FoundSegment[] = [];
  try {
    await openConnected(options, names.segments, found);
    const before = names.segments.slice(0, names.segments.length - found.length);
    const { replay, proven, tornBytes } = await replaySegments(options, found);
    const terms = replay.finish(before);
    await settle(options, replay.segments.at(-1)!, proven, tornBytes);
    await removeFiles(options, [...before, ...names.temporary]);
    const { segments, configurations } = replay;
    return { segments, terms, hardState: withinLog(replay.hardState, terms.last), configurations, tornBytes };
  } catch (error) {
    // The caller gets the error that ended the recovery.
    for (const { file } of found) await file.close().catch(() => {});
    throw error;
  }
}

/**
 * Returns the names of a log's files, segments in order of their sequence. A missing directory has
 * none.
 */
export async function listLog({
  fs,
  directory,
}: Pick<SegmentOptions, "fs" | "directory">): Promise<{ segments: string[]; temporary: string[] }> {
  const names = (await fs.exists(directory)) ? (await fs.list(directory)).sort() : [];
  return {
    segments: names.filter((name) => parseSegmentName(name) !== undefined),
    temporary: names.filter((name) => name.endsWith(TEMPORARY_SUFFIX)),
  };
}

/** Removes files of the log's directory, durably. */
export async function removeFiles({ fs, directory }: SegmentOptions, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  for (const name of names) await fs.unlink(`${directory}/${name}`);
  await fs.syncDirectory(directory);
}

/**
 * Opens the newest segments, as far back as their sequence has no gap and the log reaches. The
 * replay shows whether older segments are missing, or were about to be removed.
 */
async function openConnected(options: SegmentOptions, names: readonly string[], found: FoundSegment[]): Promise<void> {
  if (names.length === 0) throw missingLog(options.directory);
  for (const name of names.toReversed()) {
    const sequence = parseSegmentName(name)!.sequence;
    const next = found[0]?.header;
    if (next !== undefined && !continues(next, sequence)) return;
    if (next?.sequence === sequence) throw corruptLog(twiceText(options.directory, sequence));
    found.unshift(await openSegment(options, name, next === undefined));
  }
}

/** Whether the segment with this sequence is part of the log that `next` continues. */
export function continues(next: Pick<SegmentHeader, "startsLog" | "sequence">, sequence: number): boolean {
  return !next.startsLog && next.sequence <= sequence + 1;
}

export function twiceText(directory: string, sequence: number): string {
  return `${directory} holds two segments with sequence ${sequence}`;
}

async function openSegment({ fs, directory }: SegmentOptions, name: string, last: boolean): Promise<FoundSegment> {
  const path = `${directory}/${name}`;
  const file = await fs.open(path, last ? "update" : "read");
  try {
    const bytes = await readSegmentHeader(file);
    const header = namedHeader(bytes, path, name);
    const changedUnixMs = await fs.changedUnixMs?.(path);
    return { path, file, header, fileBytes: await file.size(), seed: headerCrc(bytes), changedUnixMs };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Reads the bytes of a segment's header: fewer than a header has when the file is too short. */
export async function readSegmentHeader(file: File): Promise<Buffer> {
  const buffer = Buffer.alloc(SEGMENT_HEADER_BYTES);
  return buffer.subarray(0, await file.read(buffer, 0));
}

/** Decodes a header as {@link decodeSegmentHeader} does, and compares it with the file's name. */
export function namedHeader(bytes: Buffer, path: string, name: string): SegmentHeader {
  const header = decodeSegmentHeader(bytes, path);
  const named = parseSegmentName(name)!;
  if (header.sequence === named.sequence && header.firstIndex === named.firstIndex) return header;
  throw corruptLog(
    `${path} has another name than its header says: sequence ${header.sequence}, first index ${header.firstIndex}`,
  );
}

async function replaySegments(options: SegmentOptions, found: readonly FoundSegment[]): Promise<Replayed> {
  let replay: Replay<Segment> | undefined;
  let proven = SEGMENT_HEADER_BYTES;
  let tornBytes = 0;
  for (const one of found) {
    const scan = new SegmentScan(one.file, one.fileBytes, one.seed);
    const segment = new Segment(options, one.header, one.path, one.file, one.fileBytes, one.changedUnixMs);
    replay ??= new Replay<Segment>(segment);
    replay.startSegment(segment);
    proven = SEGMENT_HEADER_BYTES;
    const used = await scan.forEachRecord((record) => {
      replay!.record(record);
      proven = Math.max(proven, record.synced);
    });
    segment.recordsEndAt(used);
    if (one === found.at(-1)) tornBytes = await measureTornTail(one, scan, used);
    else if (used !== one.fileBytes) throw corruptLog(damageText(one.path, used, undefined));
  }
  return { replay: replay!, proven, tornBytes };
}

/**
 * Returns the bytes of a torn tail, which a write leaves that a crash interrupted. Throws CORRUPT
 * when a later record was written after a sync: the bytes here had been durable, so this is damage.
 */
async function measureTornTail({ path }: FoundSegment, scan: SegmentScan, used: number): Promise<number> {
  const { end, proof } = await scan.tail(used);
  if (proof === undefined) return end - used;
  throw corruptLog(damageText(path, used, proof));
}

/**
 * Describes a place without a valid record. `proof`: offset of the record that shows the place to
 * have been durable, in the last segment.
 */
export function damageText(path: string, offset: number, proof: number | undefined): string {
  const place = `${path} is damaged at offset ${offset}`;
  if (proof === undefined) return place;
  return `${place}: the record at offset ${proof} shows that the data there had been durable`;
}

/**
 * Wipes out the torn tail, so that it is never read behind a shorter write, and makes durable all
 * that the last process may only have written: its entries are about to be acknowledged, and its
 * segment's name relied upon.
 *
 * A sync alone is not enough. When a sync fails, Linux keeps the pages in memory and marks them
 * clean: reads return them as if they were on the disk, and the next sync succeeds without writing
 * them. So this first writes again all records that are not proven durable: the last batch, and the
 * records that were appended before it without a sync.
 */
async function settle(
  { fs, directory }: SegmentOptions,
  last: Segment,
  proven: number,
  tornBytes: number,
): Promise<void> {
  await rewrite(last.file, proven, last.used);
  if (tornBytes > 0) await last.file.write(zeros(tornBytes), last.used);
  await last.sync();
  await fs.syncDirectory(directory);
}

/** Writes a part of a file again, unchanged, so that the next sync writes it to the disk. */
async function rewrite(file: File, from: number, to: number): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(REWRITE_BYTES, Math.max(0, to - from)));
  for (let at = from; at < to; ) {
    const bytes = await file.read(buffer.subarray(0, to - at), at);
    assert(bytes > 0, "records that were read are still there", { at, to });
    await file.write([buffer.subarray(0, bytes)], at);
    at += bytes;
  }
}

/** Bytes that are read and written again at a time. */
const REWRITE_BYTES = 1024 * 1024;

/**
 * Lowers the commit index to the last entry. A hard state stands before the entries of its batch,
 * so these may have been torn off from a commit that counts on them.
 */
export function withinLog(state: HardState, { index }: LogPosition): HardState {
  return { ...state, commit: Math.min(state.commit, index) };
}

export function missingLog(directory: string): CairnError {
  return new CairnError("DATA_DIRECTORY", `the log is missing: ${directory} holds no segment. ${DAMAGED_MEMBER}`);
}
