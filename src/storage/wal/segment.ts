import { assert } from "../../base/assert.js";
import { hasCode } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import type { File, FileSystem } from "../../system/fs.js";
import { EntryTable } from "./entry_table.js";
import {
  encodeSegmentHeader,
  headerCrc,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  segmentName,
  TEMPORARY_SUFFIX,
} from "./segment_header.js";

// Writes one segment file of the log.

/** Options shared by all segments of a log. */
export interface SegmentOptions {
  readonly fs: FileSystem;
  /** Absolute path. */
  readonly directory: string;
  /** Size at which a new segment starts; a batch larger than this still goes into one segment. */
  readonly segmentBytes: number;
  /** Step in which segments are filled with zeros ahead of the records; 0 turns filling off. */
  readonly fillBytes: number;
}

/** Record offsets are 32-bit numbers. */
const SEGMENT_BYTES_MAX = 0xffff_ffff;

/**
 * One file of the log.
 *
 *     header | records | zeros
 *            512       used    filled = end of the file
 *
 * Only the last segment of a log is written to, by one caller at a time.
 */
export class Segment {
  /** Start of the CRCs of the records. */
  readonly seed: number;
  /** The live entries. */
  readonly entries = new EntryTable();

  #used = SEGMENT_HEADER_BYTES;
  #synced = SEGMENT_HEADER_BYTES;
  #filled: number;
  /** A write failed part way: the bytes behind `used` are unknown. */
  #tainted = false;
  /** False when filling is off, or a write has failed. */
  #fillsAhead: boolean;
  #readers = 0;
  #onIdle: (() => void) | undefined;

  /**
   * Makes a segment whose records, if it has any, are not known yet; `fileBytes` is the size of the
   * file.
   */
  constructor(
    private readonly options: SegmentOptions,
    readonly header: SegmentHeader,
    readonly path: string,
    readonly file: File,
    fileBytes: number,
    /** When the file was last changed before it was opened; undefined for one of this process. */
    readonly foundUnixMs?: number,
  ) {
    this.seed = headerCrc(encodeSegmentHeader(header));
    this.#filled = fileBytes;
    this.#fillsAhead = options.fillBytes > 0;
    file.allowDirect?.();
  }

  /**
   * Makes a segment under a temporary name. Header and reserve are durable on return, so that a
   * segment never has half a header. Throws CairnError DISK_FULL, and then removes the file if it
   * can.
   */
  static async prepare(options: SegmentOptions, header: SegmentHeader): Promise<Segment> {
    const { fs, directory } = options;
    const path = `${directory}/${segmentName(header.sequence, header.firstIndex)}`;
    const temporary = path + TEMPORARY_SUFFIX;
    if (await fs.exists(temporary)) await fs.unlink(temporary);
    const file = await fs.open(temporary, "create");
    const segment = new Segment(options, header, path, file, SEGMENT_HEADER_BYTES + limits.segmentReserveBytes);
    try {
      await file.write([encodeSegmentHeader(header), ...zeros(limits.segmentReserveBytes)], 0);
      await file.datasync();
      return segment;
    } catch (error) {
      await segment.discard();
      throw error;
    }
  }

  /** Gives a prepared segment its name. Durable on return. */
  async publish(): Promise<void> {
    const { fs, directory } = this.options;
    await fs.rename(this.path + TEMPORARY_SUFFIX, this.path);
    this.file.renamed(this.path);
    await fs.syncDirectory(directory);
  }

  /** Undoes {@link prepare} if it can; the next start removes the rest. */
  async discard(): Promise<void> {
    await this.file.close().catch(() => {});
    await this.options.fs.unlink(this.path + TEMPORARY_SUFFIX).catch(() => {});
  }

  /** End of the records. */
  get used(): number {
    return this.#used;
  }

  /** End of the durable records. */
  get synced(): number {
    return this.#synced;
  }

  /** Size of the file. */
  get fileBytes(): number {
    return this.#filled;
  }

  /** Sets the end of the records that were found in the file. They may not be durable. */
  recordsEndAt(used: number): void {
    this.#used = used;
  }

  /**
   * Returns whether records fit that keep `reserve` zeros behind them. Records that keep none may
   * use up the reserve of others.
   */
  hasRoomFor(bytes: number, reserve: number): boolean {
    const limit = this.options.segmentBytes + limits.segmentReserveBytes;
    return this.#used === SEGMENT_HEADER_BYTES || this.#used + bytes + reserve <= limit;
  }

  /**
   * Writes records behind the others; {@link sync} makes them durable. `reserve`: zeros to keep
   * behind them. Throws CairnError DISK_FULL: nothing has changed then, and the next write goes to
   * the same place.
   */
  async write(records: Uint8Array, reserve: number): Promise<void> {
    if (this.#tainted) await this.#repair();
    const end = this.#used + records.byteLength;
    assert(end <= SEGMENT_BYTES_MAX, "record offsets fit 32 bits", { end });
    const fill = this.#zerosBehind(end, records.byteLength, reserve);
    try {
      await this.file.write([records, ...zeros(fill)], this.#used);
    } catch (error) {
      this.#tainted = true;
      this.#fillsAhead = false;
      if (hasCode(error, "DISK_FULL")) await this.#repair().catch(ignoreDiskFull);
      throw error;
    }
    this.#used = end;
    this.#filled = Math.max(this.#filled, end + fill);
  }

  /** Makes the records written so far durable. */
  async sync(): Promise<void> {
    const used = this.#used;
    await this.file.datasync();
    this.#synced = used;
  }

  /** Ends the segment: cuts the file to its records. Durable on return. */
  async seal(): Promise<void> {
    await this.file.truncate(this.#used);
    await this.sync();
    this.#filled = this.#used;
    this.#tainted = false;
  }

  /** Keeps the file open until {@link release}, even after it is retired. */
  retain(): void {
    this.#readers++;
  }

  release(): void {
    this.#readers--;
    if (this.#readers === 0) this.#onIdle?.();
  }

  /** Closes the file, once nobody reads it. */
  async retire(): Promise<void> {
    if (this.#readers > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    await this.file.close();
  }

  /**
   * Returns the number of zeros to write behind records that end at `end`. Filling ahead makes the
   * next syncs cheaper, but writes each byte twice, which does not pay off for large batches.
   */
  #zerosBehind(end: number, bytes: number, reserve: number): number {
    const least = end + reserve;
    if (least <= this.#filled) return 0;
    const { fillBytes, segmentBytes } = this.options;
    if (!this.#fillsAhead || bytes > fillBytes / 2) return least - end;
    const step = Math.min(Math.ceil(least / fillBytes) * fillBytes, segmentBytes);
    return Math.max(least, step) - end;
  }

  /**
   * Wipes out the bytes that a failed write left behind the records, durably. That write was
   * refused and must not come back: behind a later, shorter write, its bytes could be read as
   * records. Overwriting space that was filled before needs no room on most file systems; the rest
   * is cut off. On a file system that does need room for it, the next write tries again.
   */
  async #repair(): Promise<void> {
    await this.file.write(zeros(this.#filled - this.#used), this.#used);
    await this.file.truncate(this.#filled);
    await this.sync();
    this.#tainted = false;
  }
}

function ignoreDiskFull(error: unknown): void {
  if (!hasCode(error, "DISK_FULL")) throw error;
}

const ZERO_BLOCK = new Uint8Array(64 * 1024);

/** Returns the parts of a write of `bytes` zeros. */
export function zeros(bytes: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let left = bytes; left > 0; left -= ZERO_BLOCK.byteLength) parts.push(ZERO_BLOCK.subarray(0, left));
  return parts;
}
