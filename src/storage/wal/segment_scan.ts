import type { File } from "../../system/fs.js";
import { plausibleHeader, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, type RecordHeader, recordIsIntact } from "./record.js";
import { SEGMENT_HEADER_BYTES } from "./segment_header.js";

// Reads the records of a segment whose end is not known yet.

/** Bytes read at a time; more than the largest record takes. */
const WINDOW_BYTES = 4 * 1024 * 1024;
const ZERO_BLOCK = Buffer.alloc(4096);

/** A record and its payload, which is valid until the next record is read. */
export type ScannedRecord = RecordHeader & { readonly position: number; readonly payload: Buffer };

/** Describes a segment from the first place that holds no valid record to the end of the file. */
export interface Tail {
  /** End of the bytes that are not zero; the place itself when all are zero. */
  readonly end: number;
  /**
   * Offset of a valid record that was written after the place was durable: the place was damaged
   * later.
   */
  readonly proof: number | undefined;
}

/** Reads the records of one segment, one after the other, through a window onto the file. */
export class SegmentScan {
  #window = Buffer.alloc(0);
  /** The memory of the window, which each part of the file overwrites. */
  #memory = Buffer.alloc(0);
  /** Offset in the file of the window's first byte. */
  #start = 0;

  constructor(
    private readonly file: File,
    readonly fileBytes: number,
    private readonly seed: number,
  ) {}

  /**
   * Passes the valid records to `visit`, from the first to the last that follows without a gap.
   * Returns the end of the last one.
   */
  async forEachRecord(visit: (record: ScannedRecord) => void): Promise<number> {
    let position = SEGMENT_HEADER_BYTES;
    for (;;) {
      const record = this.inWindow(position) ?? (await this.recordAt(position));
      if (record === undefined) return position;
      visit(record);
      position += record.bytes;
    }
  }

  /** Examines the segment from `torn` on. */
  tail(torn: number): Promise<Tail> {
    return this.#search(torn, ({ synced }) => synced > torn);
  }

  /** Returns the offset of the next valid record above `damaged`; undefined when there is none. */
  async nextRecord(damaged: number): Promise<number | undefined> {
    return (await this.#search(damaged + RECORD_ALIGNMENT, () => true)).proof;
  }

  /** Searches from `start` on for a valid record with a header that is `wanted`. */
  async #search(start: number, wanted: (header: RecordHeader) => boolean): Promise<Tail> {
    let end = start;
    let position = start;
    while (position < this.fileBytes) {
      const headerEnd = Math.min(this.fileBytes, position + RECORD_HEADER_BYTES);
      if (!this.#holds(position, headerEnd)) await this.#load(position);
      const zero = this.#zerosAt(position);
      if (zero === 0) {
        end = Math.max(end, this.#endOfWordAt(position));
        const header = this.#headerAt(position);
        if (header !== undefined && wanted(header) && (await this.#isIntact(position, header))) {
          return { end, proof: position };
        }
      }
      position += Math.max(zero, RECORD_ALIGNMENT);
    }
    return { end, proof: undefined };
  }

  async #isIntact(position: number, header: RecordHeader): Promise<boolean> {
    if (!this.#holds(position, position + header.bytes)) await this.#load(position);
    return this.inWindow(position) !== undefined;
  }

  /**
   * Returns the bytes to the end of the zero block at `position`; 0 when the block is not all
   * zeros.
   */
  #zerosAt(position: number): number {
    const at = position - this.#start;
    const bytes = Math.min(ZERO_BLOCK.byteLength, this.#window.byteLength - at);
    return this.#window.compare(ZERO_BLOCK, 0, bytes, at, at + bytes) === 0 ? bytes : 0;
  }

  /** Returns the end of the last non-zero byte of the eight at `position`; 0 when all are zero. */
  #endOfWordAt(position: number): number {
    const at = position - this.#start;
    for (let byte = Math.min(at + RECORD_ALIGNMENT, this.#window.byteLength) - 1; byte >= at; byte--) {
      if (this.#window[byte] !== 0) return this.#start + byte + 1;
    }
    return 0;
  }

  /** Returns the record at `position` if it is valid. */
  async recordAt(position: number): Promise<ScannedRecord | undefined> {
    const headerEnd = position + RECORD_HEADER_BYTES;
    if (headerEnd > this.fileBytes) return undefined;
    if (!this.#holds(position, headerEnd)) await this.#load(position);
    const header = this.#headerAt(position);
    if (header === undefined) return undefined;
    if (!this.#holds(position, position + header.bytes)) await this.#load(position);
    return this.inWindow(position);
  }

  /** Returns the record at `position` if it is valid, and in memory already. */
  inWindow(position: number): ScannedRecord | undefined {
    const header = this.#headerAt(position);
    if (header === undefined || !this.#holds(position, position + header.bytes)) return undefined;
    const at = position - this.#start;
    if (!recordIsIntact(this.#window, at, header.bytes, { position, seed: this.seed })) return undefined;
    const start = at + RECORD_HEADER_BYTES;
    const { type, synced, payloadBytes, bytes } = header;
    const payload = this.#window.subarray(start, start + payloadBytes);
    return { type, synced, payloadBytes, bytes, position, payload };
  }

  #headerAt(position: number): RecordHeader | undefined {
    if (!this.#holds(position, position + RECORD_HEADER_BYTES)) return undefined;
    return plausibleHeader(this.#window, position - this.#start, position, this.fileBytes);
  }

  #holds(position: number, end: number): boolean {
    return position >= this.#start && end <= this.#start + this.#window.byteLength;
  }

  /** Moves the window to `position`. */
  async #load(position: number): Promise<void> {
    if (this.#memory.byteLength === 0) this.#memory = Buffer.allocUnsafeSlow(Math.min(WINDOW_BYTES, this.fileBytes));
    const wanted = this.#memory.subarray(0, this.fileBytes - position);
    const read = await this.file.read(wanted, position);
    this.#window = wanted.subarray(0, read);
    this.#start = position;
  }
}
