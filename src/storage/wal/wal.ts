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

// The write-ahead log: appends, trims, resets and reads the entries of one node, and keeps its hard
// state.

export interface WriteAheadLogOptions {
  readonly fs: FileSystem;
  /** Absolute path of a directory that holds nothing else. */
  readonly directory: string;
  /** Size at which a new segment starts, in bytes. Default: limits.segmentBytes. */
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
   * that the log has already removes the entries from there on.
   */
  readonly entries: readonly Entry[];
  /** Written only if it differs from the present one. Its term never falls. */
  readonly hardState?: HardState | undefined;
  /**
   * Whether everything appended so far is durable on return. Without it, later appends or a power
   * failure decide.
   */
  readonly sync: boolean;
}

/** A log that existed, and the findings of its recovery. */
export interface OpenedLog extends Pick<RecoveredLog, "tornBytes" | "configurations"> {
  readonly log: WriteAheadLog;
}

/**
 * The log and the hard state on disk: a directory of segment files (../README.md has their format).
 * Memory holds eight bytes for an entry, and none of its data.
 *
 * Changes (append, trim, reset, close) run one after the other, in the order of the calls. The
 * getters and {@link entries} show a change once it has ended.
 *
 * Errors of all changes: CairnError DISK_FULL, or BUSY when too many files are open: nothing has
 * changed, and the caller may try the same or another change at any time. STORAGE_FAILED: the
 * contents of the disk are unknown; every later call fails the same way, and the process must stop.
 * STOPPED: the log is closed. A broken rule of the log is an InvariantViolation, and nothing has
 * changed.
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
  /** Encodes small batches; only one change runs at a time. */
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);

  private constructor(options: SegmentOptions, log: Pick<RecoveredLog, "segments" | "terms" | "hardState">) {
    this.#options = options;
    this.#segments = log.segments;
    this.#terms = log.terms;
    this.#hardState = log.hardState;
  }

  /**
   * Makes an empty log that starts after `boundary`. Durable on return, with its directory. Throws
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
   * Opens the log. Everything that it then shows is durable. `tornBytes`: bytes of a write that a
   * crash interrupted, now removed. `configurations`: indexes of the log's configuration entries,
   * ascending. Throws CairnError DATA_DIRECTORY when there is no log; CORRUPT when it is damaged or
   * a part is missing, with nothing changed.
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

  /** Position right before the first entry. */
  get boundary(): LogPosition {
    return this.#terms.boundary;
  }

  /** Position of the last entry, or the boundary when the log is empty. */
  get last(): LogPosition {
    return this.#terms.last;
  }

  /** Returns the term of the entry at `index`, or at the boundary; undefined outside. */
  termAt(index: number): number | undefined {
    return this.#terms.termAt(index);
  }

  /** Returns the terms of the entries, oldest first; the first range starts at the boundary. */
  termRanges(): readonly TermRange[] {
    return this.#terms.ranges;
  }

  /**
   * Returns the log's size on disk. `diskBytes` counts all segment files, filled zeros included.
   */
  stats(): { segments: number; diskBytes: number } {
    const diskBytes = this.#segments.reduce((sum, segment) => sum + segment.fileBytes, 0);
    return { segments: this.#segments.length, diskBytes };
  }

  /**
   * When the oldest file of the log was last changed before the log was opened; undefined when it
   * was not there then.
   */
  get oldestFileUnixMs(): number | undefined {
    return this.#segments[0]?.foundUnixMs;
  }

  /**
   * Returns the highest index from which the log takes `bytes` bytes on disk, or the log's first
   * index when all of it takes less. A log kept from there lets a follower lag that far behind.
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
   * Returns the bytes on disk of the entries from `first` to `last`, both included, and of the
   * records between them, as far as the log holds them.
   */
  bytesBetween(first: number, last: number): number {
    const low = Math.max(first, this.boundary.index + 1);
    return this.#segments.reduce((sum, { entries, used }) => sum + entries.bytesBetween(low, last, used), 0);
  }

  /**
   * Whether a small {@link append} is carried out on the calling thread now, because the disk
   * answers far below a millisecond.
   */
  get isDirect(): boolean {
    return this.#active.file.isDirect === true;
  }

  /**
   * Appends entries and the hard state in one write. Durable on return when `sync` is set. Throws
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
   * Drops the entries up to `index`, one of the log's; does nothing below the boundary. Removes the
   * segments that hold only such entries. A power failure may undo a trim that removes no segment.
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
   * Drops all entries; the log then starts after `position`, which is not below the boundary.
   * Durable on return, with the hard state if one is given. Removes the files of the old log.
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
   * Reads the entries from `low` to `high`, both included: at least the first one, and then no more
   * than `maxBytes` as {@link entryBytes} counts. Throws CairnError OUT_OF_RANGE when the log does
   * not hold both, CORRUPT when a record has been damaged.
   */
  async entries(low: number, high: number, maxBytes: number): Promise<Entry[]> {
    this.#checkUsable();
    assert(low <= high, "entries are read upwards", { low, high });
    if (low <= this.boundary.index || high > this.last.index) {
      throw new CairnError(
        "OUT_OF_RANGE",
        `entries ${low} to ${high} were requested, but the log holds ${this.boundary.index + 1} to ${this.last.index}`,
      );
    }
    return readEntries(this.#segments, low, high, maxBytes);
  }

  /** Makes everything durable, and closes the files. Does nothing when the log is closed. */
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
   * Closes the files without writing anything. A change under way ends first; waiting changes fail.
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

  /** Runs a change when the earlier ones have ended. */
  #change<Result>(change: () => Promise<Result>): Promise<Result> {
    if (this.#closed) return Promise.reject(this.#failure ?? stopped());
    return this.#changes.run(async () => {
      if (this.#failure !== undefined) throw this.#failure;
      return change();
    });
  }

  /** Runs a write. After any failure but a shortage, the contents of the disk are unknown. */
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
   * Starts a new segment. The segment that it continues is complete and durable before the new one
   * has its name, so only the last segment of a log can have a torn tail. The new one is made
   * first, because it may not fit the disk.
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
   * Writes the log's new start to the disk. Durable on return if segments can go then: once the
   * entries are gone, no other record says it.
   */
  async #writeTrim(position: LogPosition): Promise<void> {
    if (await this.#rolledToTrim(position)) return;
    const { used, synced, seed } = this.#active;
    await this.#active.write(encodeTrim(position, { position: used, synced, seed }), 0);
    if (this.#coveredBy(position.index) > 0) await this.#active.sync();
  }

  /** Rolls when that lets the active segment go and it is worth it; returns whether it did. */
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

  /** Removes segments, oldest first, so that a crash leaves no gap. */
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
 * Returns the bytes to keep filled behind a batch. A hard state may use all of them. A leader's
 * no-op may use half, so that a leader can be established on a full disk, and answer reads.
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

/** Returns the header of a segment that starts the log: no segment before it counts. */
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
