import { join } from "node:path";
import { CairnError } from "../../base/errors.js";
import { decodeEntry, decodeHardState } from "../../encoding/entry.js";
import type { Entry, HardState, LogPosition } from "../../raft/types.js";
import type { File, FileSystem } from "../../system/fs.js";
import { decodeTrim } from "./batch.js";
import { RecordType } from "./record.js";
import { continues, damageText, listLog, missingLog, namedHeader, readSegmentHeader, twiceText } from "./recovery.js";
import { Replay, type ReplayedSegment } from "./replay.js";
import { corruptLog, headerCrc, parseSegmentName, SEGMENT_HEADER_BYTES, type SegmentHeader } from "./segment_header.js";
import { type ScannedRecord, SegmentScan } from "./segment_scan.js";

// Reads a whole log without changing it, past any damage. Its verdict is that of a start: both use
// the same rules, in recovery.ts and replay.ts.

/** A segment file, before its records are read. */
export interface InspectedSegment {
  readonly name: string;
  readonly path: string;
  readonly fileBytes: number;
  /** Undefined when it is damaged. */
  readonly header: SegmentHeader | undefined;
  /** False for a file that is not part of the log any more: the next start removes it. */
  readonly isConnected: boolean;
}

/** A place in the log that is not as it was written. */
export interface LogDamage {
  readonly path: string;
  readonly offset: number;
  readonly text: string;
  /** The entries that are lost by it; without `to`: all from there on. Undefined for none. */
  readonly entries: { readonly from: number; readonly to?: number } | undefined;
}

/** A write whose end was never reported, because the process or the machine ended during it. */
export interface TornTail {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
}

export type InspectedPart =
  | { readonly kind: "segment"; readonly segment: InspectedSegment }
  /** `replaces`: the log had entries from this index on, which this one replaces. */
  | { readonly kind: "entry"; readonly entry: Entry; readonly offset: number; readonly replaces: boolean }
  | { readonly kind: "hard_state"; readonly hardState: HardState; readonly offset: number }
  /** The log starts behind this position. */
  | { readonly kind: "trim"; readonly position: LogPosition; readonly offset: number }
  | { readonly kind: "damage"; readonly damage: LogDamage }
  | { readonly kind: "torn"; readonly torn: TornTail };

/** Describes a whole log. Behind damage, the figures are those of the records that are readable. */
export interface LogFindings {
  readonly segments: number;
  readonly fileBytes: number;
  readonly records: number;
  /** Position right before the first entry. */
  readonly boundary: LogPosition;
  readonly last: LogPosition;
  readonly hardState: HardState;
  /** Data of the newest configuration entry. */
  readonly configuration: Uint8Array | undefined;
  readonly torn: TornTail | undefined;
  /** The first {@link DAMAGES_MAX}, in the order of the files. */
  readonly damages: readonly LogDamage[];
  readonly damageCount: number;
  /** Why a start refuses this log; undefined when it opens it. */
  readonly refusal: string | undefined;
}

export interface InspectionOptions {
  /** Receives the parts in order; a part is valid until the returned promise is resolved. */
  readonly visit?: (part: InspectedPart) => void | Promise<void>;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
}

/** Damages that are kept. */
export const DAMAGES_MAX = 100;

/** Bytes between two reports of progress. */
const PROGRESS_BYTES = 256 * 1024;

/**
 * Reads every record of a log. Takes a few MiB of memory, however large the log is.
 * @throws CairnError CANCELLED by the signal; DATA_DIRECTORY for a log of another format version
 */
export async function inspectLog(
  fs: FileSystem,
  directory: string,
  options: InspectionOptions = {},
): Promise<LogFindings> {
  const inspection = new Inspection(fs, directory, options);
  await inspection.run();
  return inspection.findings();
}

/** Counts the live entries of a segment, in place of a table with their offsets. */
class EntryCount {
  count = 0;
  firstIndex = 0;

  append(index: number): void {
    if (this.count === 0) this.firstIndex = index;
    this.count++;
  }

  truncateFrom(index: number): void {
    this.count = Math.max(0, Math.min(this.count, index - this.firstIndex));
  }
}

interface OpenSegment extends InspectedSegment {
  readonly sequence: number;
  /** Start of the CRCs of its records. A damaged header still says it, unless that part is hit. */
  readonly seed: number;
}

/** Reads one log. */
class Inspection {
  #replay: Replay<ReplayedSegment> | undefined;
  #refusal: string | undefined;
  #segments: OpenSegment[] = [];
  #records = 0;
  #boundary: LogPosition = { index: 0, term: 0 };
  #last: LogPosition = { index: 0, term: 0 };
  #hardState: HardState = { term: 0, vote: undefined, commit: 0 };
  /** The configuration entries that no other entry has replaced, ascending. */
  #configurations: { readonly index: number; readonly data: Uint8Array }[] = [];
  #torn: TornTail | undefined;
  #damages: LogDamage[] = [];
  #damageCount = 0;
  #doneBytes = 0;
  #reportedBytes = 0;

  constructor(
    private readonly fs: FileSystem,
    private readonly directory: string,
    private readonly options: InspectionOptions,
  ) {}

  async run(): Promise<void> {
    const { segments: names } = await listLog({ fs: this.fs, directory: this.directory });
    if (names.length === 0) return this.#refuse(missingLog(this.directory).text);
    this.#segments = await this.#look(names);
    const connected = this.#segments.filter(({ isConnected }) => isConnected);
    for (const segment of this.#segments) {
      await this.#show({ kind: "segment", segment });
      if (segment.isConnected) await this.#segment(segment, segment === this.#segments.at(-1));
    }
    if (this.#refusal === undefined && this.#replay !== undefined) {
      const before = this.#segments.filter(({ isConnected }) => !isConnected).map(({ name }) => name);
      await this.#judge(connected[0]!.path, 0, () => void this.#replay!.finish(before));
    }
    this.#report(true);
  }

  findings(): LogFindings {
    const last = this.#last.index < this.#boundary.index ? this.#boundary : this.#last;
    return {
      segments: this.#segments.length,
      fileBytes: this.#totalBytes,
      records: this.#records,
      boundary: this.#boundary,
      last,
      hardState: { ...this.#hardState, commit: Math.min(this.#hardState.commit, last.index) },
      configuration: this.#configurations.at(-1)?.data,
      torn: this.#torn,
      damages: this.#damages,
      damageCount: this.#damageCount,
      refusal: this.#refusal,
    };
  }

  get #totalBytes(): number {
    return this.#segments.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  }

  /** Reads the headers, from the newest segment back, as a start does. */
  async #look(names: readonly string[]): Promise<OpenSegment[]> {
    const found: OpenSegment[] = [];
    let isConnected = true;
    for (const name of names.toReversed()) {
      const path = join(this.directory, name);
      const { sequence } = parseSegmentName(name)!;
      const next = found[0];
      if (next !== undefined) {
        isConnected &&= continues({ startsLog: next.header?.startsLog === true, sequence: next.sequence }, sequence);
        if (isConnected && next.sequence === sequence) {
          await this.#damaged({ path, offset: 0, text: twiceText(this.directory, sequence), entries: undefined });
        }
      }
      found.unshift(await this.#header(path, name, isConnected));
    }
    return found;
  }

  async #header(path: string, name: string, isConnected: boolean): Promise<OpenSegment> {
    const file = await this.fs.open(path, "read");
    try {
      const bytes = await readSegmentHeader(file);
      const fileBytes = await file.size();
      const { sequence } = parseSegmentName(name)!;
      const segment = { name, path, fileBytes, sequence, isConnected };
      try {
        return { ...segment, header: namedHeader(bytes, path, name), seed: headerCrc(bytes) };
      } catch (error) {
        const { code, text } = CairnError.from(error);
        if (code !== "CORRUPT") throw error;
        if (isConnected) {
          await this.#damaged({ path, offset: 0, text: withoutAdvice(text), entries: undefined }, text);
        }
        const isWhole = bytes.byteLength === SEGMENT_HEADER_BYTES;
        return { ...segment, header: undefined, seed: isWhole ? bytes.readUInt32LE(SEED_AT) : 0 };
      }
    } finally {
      await file.close();
    }
  }

  async #segment(segment: OpenSegment, isLast: boolean): Promise<void> {
    const { header, path } = segment;
    if (header !== undefined) {
      this.#boundary = header.boundary;
      this.#hardState = header.hardState;
      const position = { index: header.firstIndex - 1, term: header.previousTerm };
      if (this.#records === 0) this.#last = position;
      await this.#judge(path, 0, () => {
        const replayed = { path, header, entries: new EntryCount() };
        this.#replay ??= new Replay<ReplayedSegment>(replayed);
        this.#replay.startSegment(replayed);
      });
      this.#cut(header.firstIndex);
    }
    const file = await this.fs.open(path, "read");
    try {
      await this.#readRecords(segment, file, isLast);
    } finally {
      await file.close();
    }
    this.#doneBytes += segment.fileBytes;
  }

  async #readRecords(segment: OpenSegment, file: File, isLast: boolean): Promise<void> {
    const { path, fileBytes, seed } = segment;
    const scan = new SegmentScan(file, fileBytes, seed);
    let position = SEGMENT_HEADER_BYTES;
    while (position < fileBytes) {
      const record = scan.inWindow(position) ?? (await scan.recordAt(position));
      if (record !== undefined) {
        const shown = this.#record(path, record);
        if (shown !== undefined) await shown;
        position += record.bytes;
      } else {
        const { end, proof } = isLast ? await scan.tail(position) : { end: fileBytes, proof: undefined };
        // Behind a damaged header without any readable record, nothing shows a torn write.
        const isReadable = segment.header !== undefined || position > SEGMENT_HEADER_BYTES;
        if (isLast && isReadable && proof === undefined) return this.#tornAt(path, position, end - position);
        const next = await scan.nextRecord(position);
        await this.#damagedRecord(scan, path, position, { proof, next });
        if (next === undefined) return;
        position = next;
      }
      this.#report(false, position);
    }
  }

  /** Handles a valid record; returns a promise when the caller must wait. */
  #record(path: string, record: ScannedRecord): void | Promise<void> {
    this.#records++;
    if (this.#refusal === undefined && this.#replay !== undefined) {
      try {
        this.#replay.record(record);
      } catch (error) {
        return this.#invalid(path, record, error);
      }
    }
    try {
      return this.#follow(record);
    } catch (error) {
      return this.#invalid(path, record, error);
    }
  }

  /** Follows the log as far as the records tell, and shows this one. */
  #follow({ type, payload, position: offset }: ScannedRecord): void | Promise<void> {
    const { visit } = this.options;
    if (type === RecordType.entry) {
      const entry = decodeEntry(payload);
      const { index, term } = entry;
      const replaces = index <= this.#last.index;
      this.#cut(index);
      this.#last = { index, term };
      if (entry.type === "configuration") this.#configurations.push({ index, data: Uint8Array.from(entry.data) });
      return visit?.({ kind: "entry", entry, offset, replaces });
    }
    if (type === RecordType.hardState) {
      this.#hardState = decodeHardState(payload);
      return visit?.({ kind: "hard_state", hardState: this.#hardState, offset });
    }
    this.#boundary = decodeTrim(payload);
    return visit?.({ kind: "trim", position: this.#boundary, offset });
  }

  /** Forgets the entries from `index` on, which others replace. */
  #cut(index: number): void {
    while ((this.#configurations.at(-1)?.index ?? 0) >= index) this.#configurations.pop();
  }

  #invalid(path: string, { position: offset }: ScannedRecord, error: unknown): Promise<void> {
    const { text } = CairnError.from(error);
    return this.#damaged({ path, offset, text: withoutAdvice(text), entries: undefined }, text);
  }

  async #judge(path: string, offset: number, step: () => void): Promise<void> {
    if (this.#refusal !== undefined) return;
    try {
      step();
    } catch (error) {
      const { text } = CairnError.from(error);
      await this.#damaged({ path, offset, text: withoutAdvice(text), entries: undefined }, text);
    }
  }

  async #damagedRecord(
    scan: SegmentScan,
    path: string,
    offset: number,
    { proof, next }: { readonly proof: number | undefined; readonly next: number | undefined },
  ): Promise<void> {
    const text = damageText(path, offset, proof);
    const from = this.#last.index + 1;
    const behind = next === undefined ? undefined : await indexBehind(scan, next);
    const isUnknown = behind === undefined || behind <= from;
    const entries = behind === from ? undefined : isUnknown ? { from } : { from, to: behind - 1 };
    await this.#damaged({ path, offset, text, entries }, corruptLog(text).text);
  }

  async #damaged(damage: LogDamage, refusal: string = corruptLog(damage.text).text): Promise<void> {
    this.#refuse(refusal);
    this.#damageCount++;
    if (this.#damages.length < DAMAGES_MAX) this.#damages.push(damage);
    await this.#show({ kind: "damage", damage });
  }

  #refuse(text: string): void {
    this.#refusal ??= text;
  }

  async #tornAt(path: string, offset: number, bytes: number): Promise<void> {
    if (bytes === 0) return;
    this.#torn = { path, offset, bytes };
    await this.#show({ kind: "torn", torn: this.#torn });
  }

  async #show(part: InspectedPart): Promise<void> {
    await this.options.visit?.(part);
  }

  /** Reports the progress, and ends the inspection when the caller wants no more. */
  #report(isEnd: boolean, position = 0): void {
    const done = this.#doneBytes + position;
    if (!isEnd && done - this.#reportedBytes < PROGRESS_BYTES) return;
    this.#reportedBytes = done;
    this.options.onProgress?.(done, this.#totalBytes);
    if (!isEnd && this.options.signal?.aborted) throw new CairnError("CANCELLED", "reading the log was interrupted");
  }
}

/** Offset of the CRC in a segment's header. */
const SEED_AT = 12;

/** Returns the index of the first entry at or behind a valid record. */
async function indexBehind(scan: SegmentScan, start: number): Promise<number | undefined> {
  let at = start;
  for (;;) {
    const record = await scan.recordAt(at);
    if (record === undefined) return undefined;
    if (record.type === RecordType.entry) return decodeEntry(record.payload).index;
    at += record.bytes;
  }
}

/** Leaves out what {@link corruptLog} adds to a text: a tool's reader gets its own advice. */
function withoutAdvice(text: string): string {
  return text.split(". Nothing was changed.", 1)[0]!;
}
