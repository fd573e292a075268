import { pageChecksum, pageEnd, pageFor, pageStart, pagesOf } from "./directory.js";
import { RecordReader } from "./record_reader.js";
import type { Table } from "./table.js";

/** Most bytes that one read of a range asks for. */
const AHEAD_BYTES = 64 * 1024;

/** Bytes at the start of a range that are read into the cache: short ranges are often repeated. */
const CACHED_BYTES = 16 * 1024;

/**
 * Reads the records of a table from one key to another on the calling thread:
 *
 *   while (range.advance()) use(range.key);
 *
 * Pages come from the cache when they are there. The first ones are put there; the others are read
 * past it, in pieces that grow, so that a long range leaves the cache as it is.
 */
export class TableRange extends RecordReader {
  #buffer: Uint8Array = new Uint8Array(0);
  #block: number;
  #directory: Uint8Array = new Uint8Array(0);
  #page = 0;
  #at = 0;
  #end = 0;
  /** Bytes so far, and those that the next read may ask for. */
  #done = 0;
  #ahead = CACHED_BYTES;
  #isBefore = true;

  /** `end`: the first key that is not read; undefined: none. */
  constructor(
    private readonly table: Table,
    private readonly start: Uint8Array,
    private readonly end: Uint8Array | undefined,
  ) {
    super();
    const isEmpty = end !== undefined && Buffer.compare(start, end) >= 0;
    if (isEmpty || Buffer.compare(start, table.info.last) > 0) {
      this.#block = table.index.blocks;
      return;
    }
    this.#block = table.index.blockFor(start);
    this.#directory = table.directoryCopy(this.#block, true);
    this.#page = pageFor(this.#directory, 0, start);
  }

  /** Moves to the next record; false: there is none. @throws CairnError CORRUPT, BUSY */
  advance(): boolean {
    do {
      if (this.#at >= this.#end && !this.#nextPages()) return false;
      this.#at = this.moveTo(this.#at);
    } while (this.#isBefore && this.compareToKey(this.start) < 0);
    this.#isBefore = false;
    if (this.end === undefined || this.compareToKey(this.end) < 0) return true;
    this.#block = this.table.index.blocks;
    this.#at = this.#end = 0;
    return false;
  }

  #nextPages(): boolean {
    const { index } = this.table;
    if (this.#block >= index.blocks) return false;
    if (this.#page >= pagesOf(this.#directory, 0)) {
      if (this.#block + 1 >= index.blocks) return false;
      this.#block += 1;
      this.#directory = this.table.directoryCopy(this.#block, this.#done < CACHED_BYTES);
      this.#page = 0;
    }
    this.#takePages();
    return true;
  }

  /** Takes a page from the cache, or reads some that follow each other. */
  #takePages(): void {
    const { files, file, index } = this.table;
    const directory = this.#directory;
    const start = pageStart(directory, 0, this.#page);
    const position = index.start(this.#block) + start;
    let bytes = pageEnd(directory, 0, this.#page) - start;
    let next = this.#page + 1;
    const checksum = pageChecksum(directory, 0, this.#page);
    const cached = this.table.piece(position, bytes, checksum, this.#done < CACHED_BYTES);
    if (cached !== undefined) {
      this.#makeRoom(bytes);
      this.#buffer.set(cached);
    } else {
      const pages = pagesOf(directory, 0);
      while (next < pages && pageEnd(directory, 0, next) - start <= this.#ahead) next += 1;
      bytes = pageEnd(directory, 0, next - 1) - start;
      this.#makeRoom(bytes);
      files.readNow(file, this.#buffer.subarray(0, bytes), position);
      for (let page = this.#page; page < next; page++) {
        const at = pageStart(directory, 0, page) - start;
        const piece = this.#buffer.subarray(at, pageEnd(directory, 0, page) - start);
        this.table.check(piece, position + at, pageChecksum(directory, 0, page));
      }
      this.#ahead = Math.min(AHEAD_BYTES, 2 * this.#ahead);
    }
    this.#done += bytes;
    this.bytes = this.#buffer;
    this.#page = next;
    this.#at = 0;
    this.#end = bytes;
  }

  #makeRoom(bytes: number): void {
    if (this.#buffer.byteLength < bytes) this.#buffer = new Uint8Array(bytes);
  }
}

/**
 * Reads the pages of a span into the cache, in the thread pool, until about `most` bytes have been
 * read; returns their number.
 */
export async function loadRange(
  table: Table,
  start: Uint8Array,
  end: Uint8Array | undefined,
  most: number,
): Promise<number> {
  const { cache, files, file, index, owner } = table;
  if (Buffer.compare(start, table.info.last) > 0) return 0;
  const firstBlock = index.blockFor(start);
  const lastBlock = end === undefined ? index.blocks - 1 : index.blockFor(end);
  let done = 0;
  for (let block = firstBlock; block <= lastBlock; block++) {
    const directory = await table.directory(block);
    const lastPage = end !== undefined && block === lastBlock ? pageFor(directory, 0, end) : pagesOf(directory, 0) - 1;
    const firstPage = block === firstBlock ? pageFor(directory, 0, start) : 0;
    for (let page = firstPage; page <= lastPage; page++) {
      if (done >= most) return done;
      const at = pageStart(directory, 0, page);
      const bytes = pageEnd(directory, 0, page) - at;
      const position = index.start(block) + at;
      if (cache.has(owner, position, bytes)) continue;
      const piece = new Uint8Array(bytes);
      await files.read(file, piece, position);
      table.check(piece, position, pageChecksum(directory, 0, page));
      table.keep(piece, position);
      done += bytes;
    }
  }
  return done;
}
