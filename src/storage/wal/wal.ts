import { dirname } from "node:path";
import { assert, assertCount, InvariantViolation } from "../../base/assert.js";
import { CairnError, isShortage } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { type TermRange, TermRanges } from "../../raft/term_ranges.js";
import type { Entry, HardState, LogPosition } from "../../raft/types.js";
import type { FileSystem } from "../../system/fs.js";
import { Serial } from "../../system/serial.js";
import { Batch, encodeTrim } from "./batch.js";
import { readEntries } from "./entry_reader.js";
import { listLog, type RecoveredLog, recoverLog, removeFiles } from "./recovery.js";
import { truncateSegments } from "./replay.js";
import { changedHardState, checkEntries } from "./rules.js";
import { Segment, type SegmentOptions } from "./segment.js";
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from "./segment_header.js";

export interface WriteAheadLogOptions {
  readonly fs: FileSystem;
  /** Absolute path of a directory that holds nothing else. */
  readonly directory: string;
  /** Size from which a new segment is started, in bytes. Default: limits.segmentBytes. */
  readonly segmentBytes?: number;
  /**
   * Step in which a segment is filled with zeros ahead of its records, in bytes; 0: never. Default:
   * limits.segmentFillBytes.
   */
  readonly fillBytes?: number;
}

export interface AppendBatch {
  /**
   * Consecutive, from an index above the boundary up to the one behind the last entry. An index
   * that is there already removes the entries from there on.
   */
  readonly entries: readonly Entry[];
  /** Written only if it is another than the present one. Its term never falls. */
  readonly hardState?: HardState | undefined;
  /**
   * Whether all that was appended so far is durable on return. Without it, later appends or a power
   * failure decide.
   */
  readonly sync: boolean;
}

/** A log that was there, and what was found in it. */
export interface OpenedLog extends Pick<RecoveredLog, "tornBytes" | "configurations"> {
  readonly log: WriteAheadLog;
}

/**
 * The log and the hard state on disk: a directory of segment files (their format is in
 * ../README.md). Memory holds eight bytes for an entry, and none of its data.
 *
 * Changes (append, trim, reset, close) are carried out one after the other, in the order of the
 * calls; what the getters and {@link entries} show changes when a change ends.
 *
 * Errors of all changes: CairnError DISK_FULL, or BUSY when too many files are open: nothing has
 * changed, and the same or another change may be tried at any time. STORAGE_FAILED: what is on the
 * disk is not known; every later call fails the same way, and the process must stop. STOPPED: the
 * log is closed. A broken rule of the log is an InvariantViolation, and nothing has changed.
 */
export class WriteAheadLog {
  readonly #options: SegmentOptions;
  /** Oldest first; the last one is written to. */
  readonly #segments: Segment[];
  #terms: TermRanges;
  #hardState: HardState;
  #failure: CairnError | undefined;
  #closed = false;
  readonly #changes = new Serial();
  /** Small batches are encoded here; only one change is under way at a time. */
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);

  private constructor(options: SegmentOptions, log: Pick<RecoveredLog, "segments" | "terms" | "hardState">) {
    this.#options = options;
    this.#segments = log.segments;
    this.#terms = log.terms;
    this.#hardState = log.hardState;
  }

  /**
   * Makes an empty log that goes on after `boundary`. Durable on return, with its directory. Throws
   * CairnError DATA_DIRECTORY when the directory holds a log.
   */
  static async create(
    options: WriteAheadLogOptions,
    boundary: LogPosition,
    hardState: HardState,
  ): Promise<WriteAheadLog> {
    const segmentOptions = withDefaults(options);
    const { fs, directory } = segmentOptions;
    await fs.makeDirectory(directory);
    await fs.syncDirectory(dirname(directory));
    const found = await listLog(segmentOptions);
    if (found.segments.length > 0) {
      throw new CairnError("DATA_DIRECTORY", `${directory} holds a log already: open it, or choose an empty directory`);
    }
    await removeFiles(segmentOptions, found.temporary);
    const segment = await Segment.prepare(segmentOptions, firstHeader(1, boundary, hardState));
    try {
      await segment.publish();
    } catch (error) {
      await segment.discard();
      throw error;
    }
    return new WriteAheadLog(segmentOptions, { segments: [segment], terms: new TermRanges(boundary), hardState });
  }

  /**
   * Opens the log. All that it then shows is durable. `tornBytes`: what a crash had left of a write
   * that never ended, now removed. `configurations`: indexes of the configuration entries that the
   * log holds, ascending. Throws CairnError DATA_DIRECTORY when there is no log; CORRUPT when it is
   * damaged or a part is missing, with nothing changed.
   */
  static async open(options: WriteAheadLogOptions): Promise<OpenedLog> {
    const segmentOptions = withDefaults(options);
    const recovered = await recoverLog(segmentOptions);
    const log = new WriteAheadLog(segmentOptions, recovered);
    try {
      await log.#change(() => log.#storing(() => log.#removeCovered()));
    } catch (error) {
      await log.crash();
      throw error;
    }
    const { tornBytes, configurations } = recovered;
    return { log, tornBytes, configurations };
  }

  get hardState(): HardState {
    return this.#hardState;
  }

  /** The place right before the first entry. */
  get boundary(): LogPosition {
    return this.#terms.boundary;
  }

  /** The last entry, or the boundary when there is none. */
  get last(): LogPosition {
    return this.#terms.last;
  }

  /** Term of the entry at `index`, also at the boundary; undefined outside. */
  termAt(index: number): number | undefined {
    return this.#terms.termAt(index);
  }

  /** The terms of the entries, oldest first; the first range starts at the boundary. */
  termRanges(): readonly TermRange[] {
    return this.#terms.ranges;
  }

  /** `diskBytes`: size of all segment files, including what they are filled with ahead. */
  stats(): { segments: number; diskBytes: number } {
    const diskBytes = this.#segments.reduce((sum, segment) => sum + segment.fileBytes, 0);
    return { segments: this.#segments.length, diskBytes };
  }

  /**
   * The highest index from which on the log takes `bytes` bytes on disk, or the log's first index
   * when all of it takes less: what to keep so that a follower may lag that far behind.
   */
  firstIndexKeeping(bytes: number): number {
    let left = bytes;
    for (const { entries, used } of this.#segments.toReversed()) {
      if (left <= 0 || entries.count === 0) continue;
      const enough = entries.indexAtOrBefore(used - left);
      if (entries.offsetOf(enough) <= used - left) return Math.max(enough, this.boundary.index + 1);
      left -= used - entries.offsetOf(entries.firstIndex);
    }
    return left <= 0 ? this.last.index + 1 : this.boundary.index + 1;
  }

  /**
   * Bytes that the entries from `first` to `last`, both included, take on disk with what stands
   * among them: as far as the log holds them.
   */
  bytesBetween(first: number, last: number): number {
    const low = Math.max(first, this.boundary.index + 1);
    return this.#segments.reduce((sum, { entries, used }) => sum + entries.bytesBetween(low, last, used), 0);
  }

  /**
   * Appends entries and the hard state, in one write. Durable on return when `sync` is set. Throws
   * CairnError LIMIT_EXCEEDED when an entry is larger than limit entryBytes; nothing has changed
   * then.
   */
  append(batch: AppendBatch): Promise<void> {
    return this.#change(async () => {
      checkEntries(this.#terms, batch.entries);
      const hardState = changedHardState(this.#hardState, batch.hardState);
      const records = new Batch(batch.entries, hardState);
      await this.#storing(async () => {
        if (records.bytes > 0) await this.#append(records, batch.sync);
        else if (batch.sync) await this.#syncActive();
      });
      if (hardState !== undefined) this.#hardState = hardState;
    });
  }

  /**
   * Drops the entries up to `index`, one of the log's; below the boundary it does nothing. Segments
   * that hold only such entries are removed. A trim that removes no segment may be undone by a
   * power failure.
   */
  trim(index: number): Promise<void> {
    return this.#change(async () => {
      if (index <= this.boundary.index) return;
      const term = this.termAt(index);
      assert(term !== undefined, "the log is trimmed at one of its entries", { index, last: this.last.index });
      await this.#storing(async () => {
        await this.#writeTrim({ index, term });
        this.#terms.trimTo(index);
        await this.#removeCovered();
      });
    });
  }

  /**
   * Drops all entries; the log goes on after `position`, which is not below the boundary. Durable
   * on return, with the hard state if one is given. The files of the old log are removed.
   */
  reset(position: LogPosition, hardState: HardState = this.#hardState): Promise<void> {
    return this.#change(async () => {
      assertCount(position.index, "index");
      assertCount(position.term, "term");
      assert(position.index >= this.boundary.index, "a reset never moves the boundary back", {
        index: position.index,
        boundary: this.boundary.index,
      });
      const state = changedHardState(this.#hardState, hardState) ?? this.#hardState;
      await this.#storing(async () => {
        const sequence = this.#active.header.sequence + 1;
        await this.#startSegment(firstHeader(sequence, position, state));
        this.#terms = new TermRanges(position);
        this.#hardState = state;
        await this.#removeOldest(this.#segments.length - 1);
      });
    });
  }

  /**
   * Reads the entries from `low` to `high`, both included: at least the first one, and no more than
   * count `maxBytes` ({@link entryBytes}). Throws CairnError OUT_OF_RANGE when the log does not
   * hold both, CORRUPT when a record has been damaged.
   */
  async entries(low: number, high: number, maxBytes: number): Promise<Entry[]> {
    this.#checkUsable();
    assert(low <= high, "entries are read upwards", { low, high });
    if (low <= this.boundary.index || high > this.last.index) {
      throw new CairnError(
        "OUT_OF_RANGE",
        `entries ${low} to ${high} are asked for, but the log holds ${this.boundary.index + 1} to ${this.last.index}`,
      );
    }
    return readEntries(this.#segments, low, high, maxBytes);
  }

  /** Makes all durable, and closes the files. Does nothing when the log is closed. */
  async close(): Promise<void> {
    if (this.#closed) return;
    const synced = this.append({ entries: [], sync: true });
    this.#closed = true;
    try {
      await synced;
    } finally {
      await this.#closeFiles();
    }
  }

  /**
   * Closes the files without writing anything; the change under way, if any, ends first, and those
   * that wait fail.
   */
  async crash(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#failure ??= stopped();
    await this.#closeFiles();
  }

  get #active(): Segment {
    return this.#segments.at(-1)!;
  }

  /** Carries out a change when the earlier ones have ended. */
  #change<Result>(change: () => Promise<Result>): Promise<Result> {
    if (this.#closed) return Promise.reject(this.#failure ?? stopped());
    return this.#changes.run(async () => {
      if (this.#failure !== undefined) throw this.#failure;
      return change();
    });
  }

  /** Runs what writes: after any failure but a full disk, what is on the disk is not known. */
  async #storing(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (isShortage(error)) throw this.#refused(error);
      const text = `the log in ${this.#options.directory} failed: ${CairnError.from(error).text}`;
      this.#failure = new CairnError("STORAGE_FAILED", text, { cause: error });
      throw error instanceof InvariantViolation ? error : this.#failure;
    }
  }

  #refused(cause: CairnError): CairnError {
    return new CairnError(cause.code, `the log in ${this.#options.directory} cannot grow: ${cause.text}`, { cause });
  }

  #checkUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) throw stopped();
  }

  async #append(records: Batch, sync: boolean): Promise<void> {
    const reserve = reserveBehind(records.entries);
    if (!this.#active.hasRoomFor(records.bytes, reserve)) await this.#roll(this.boundary);
    const segment = this.#active;
    const { used: position, synced, seed } = segment;
    const buffer =
      records.bytes <= SCRATCH_BYTES ? this.#scratch.subarray(0, records.bytes) : Buffer.allocUnsafeSlow(records.bytes);
    records.encode(buffer, { position, synced, seed });
    await segment.write(buffer, reserve);
    if (sync) await segment.sync();
    const first = records.entries[0];
    if (first !== undefined && first.index <= this.last.index) {
      truncateSegments(this.#segments, first.index);
      this.#terms.truncateAfter(first.index - 1);
    }
    records.forEachEntry(position, (entry, offset, payloadBytes) => {
      segment.entries.append(entry.index, offset, payloadBytes);
      this.#terms.append(entry.index, entry.term);
    });
  }

  async #syncActive(): Promise<void> {
    if (this.#active.used > this.#active.synced) await this.#active.sync();
  }

  #roll(boundary: LogPosition): Promise<void> {
    const { last } = this;
    return this.#startSegment({
      sequence: this.#active.header.sequence + 1,
      firstIndex: last.index + 1,
      previousTerm: last.term,
      boundary,
      startsLog: false,
      hardState: this.#hardState,
    });
  }

  /**
   * Starts a new segment. One that it continues is complete and durable before the new one has its
   * name: so only the last segment of a log can have a torn tail. The new one is made first,
   * because it may not fit the disk.
   */
  async #startSegment(header: SegmentHeader): Promise<void> {
    const segment = await Segment.prepare(this.#options, header);
    try {
      if (!header.startsLog) await this.#active.seal();
      await segment.publish();
    } catch (error) {
      await segment.discard();
      throw error;
    }
    this.#segments.push(segment);
  }

  /**
   * Says on disk where the log starts from now on. Durable on return if segments can go then: with
   * the entries gone, nothing else tells.
   */
  async #writeTrim(position: LogPosition): Promise<void> {
    if (await this.#rolledToTrim(position)) return;
    const { used, synced, seed } = this.#active;
    await this.#active.write(encodeTrim(position, { position: used, synced, seed }), 0);
    if (this.#coveredBy(position.index) > 0) await this.#active.sync();
  }

  /** Rolls when that lets the active segment go, and it is worth it. */
  async #rolledToTrim(position: LogPosition): Promise<boolean> {
    const isCovered = this.last.index <= position.index;
    if (!isCovered || this.#active.used <= this.#options.segmentBytes / 2) return false;
    try {
      await this.#roll(position);
      return true;
    } catch (error) {
      // The full disk can still be trimmed up to the active segment.
      if (isShortage(error)) return false;
      throw error;
    }
  }

  /** Counts the oldest segments, the last one excluded, that hold no live entry above `index`. */
  #coveredBy(index: number): number {
    const first = this.#segments.findIndex(({ entries }) => entries.lastIndex > index);
    return first === -1 ? this.#segments.length - 1 : Math.min(first, this.#segments.length - 1);
  }

  #removeCovered(): Promise<void> {
    return this.#removeOldest(this.#coveredBy(this.boundary.index));
  }

  /** Oldest first, so that a crash leaves no gap. */
  async #removeOldest(count: number): Promise<void> {
    if (count === 0) return;
    for (let removed = 0; removed < count; removed++) {
      const segment = this.#segments[0]!;
      await this.#options.fs.unlink(segment.path);
      this.#segments.shift();
      await segment.retire();
    }
    await this.#options.fs.syncDirectory(this.#options.directory);
  }

  async #closeFiles(): Promise<void> {
    await this.#changes.settled();
    await Promise.all(this.#segments.map((segment) => segment.retire()));
  }
}

/**
 * Bytes to keep filled behind a batch. A hard state may take all of them. A leader's no-op may take
 * half, so that a leader can be established on a full disk, and answer reads.
 */
function reserveBehind(entries: readonly Entry[]): number {
  if (entries.length === 0) return 0;
  const isNoOp = entries.every(({ type }) => type === "no-op");
  return isNoOp ? limits.segmentReserveBytes / 2 : limits.segmentReserveBytes;
}

/** Batches up to this size reuse one buffer. */
const SCRATCH_BYTES = 256 * 1024;

function withDefaults(options: WriteAheadLogOptions): SegmentOptions {
  const { fs, directory, segmentBytes = limits.segmentBytes, fillBytes = limits.segmentFillBytes } = options;
  assert(segmentBytes > SEGMENT_HEADER_BYTES, "a segment is larger than its header", { segmentBytes });
  return { fs, directory, segmentBytes, fillBytes };
}

/** Header of a segment that nothing before counts for. */
function firstHeader(sequence: number, boundary: LogPosition, hardState: HardState): SegmentHeader {
  return {
    sequence,
    firstIndex: boundary.index + 1,
    previousTerm: boundary.term,
    boundary,
    startsLog: true,
    hardState,
  };
}

function stopped(): CairnError {
  return new CairnError("STOPPED", "the log is closed");
}
