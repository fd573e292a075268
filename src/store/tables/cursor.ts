import { pageChecksum, pageEnd, pageStart, pagesOf } from "./directory.js";
import { damagedTable } from "./format.js";
import { RecordReader } from "./record_reader.js";
import type { Table } from "./table.js";
import { sha256 } from "./table_index.js";

/** Bytes that one read asks for; a block is always read whole. */
const READ_BYTES = 1024 * 1024;

/**
 * Reads a table from start to end, in large pieces, past the page cache, and verifies every
 * checksum on the way. Meant for merges:
 *
 *   cursor.start(table);
 *   while (cursor.advance() || (await cursor.fill())) use(cursor.key);
 *
 * It may be started again, on another table, and then uses the same memory.
 */
export class TableCursor extends RecordReader {
  #buffer = Buffer.alloc(0);
  #table: Table | undefined;
  #from: Uint8Array | undefined;
  /** Block that the next read begins with. */
  #block = 0;
  /** Blocks of the buffer that are left: where their pages begin and end. */
  #pieces: number[] = [];
  #piece = 0;
  /** Start of the next record, and end of its block's pages. */
  #at = 0;
  #end = 0;

  /** `readBytes`: about as many are read at a time. */
  constructor(private readonly readBytes = READ_BYTES) {
    super();
  }

  /** Moves before the first record of a table, or before its first record from `from` on. */
  start(table: Table, from?: Uint8Array): void {
    this.#table = table;
    this.#from = from;
    this.#block = from === undefined ? 0 : table.index.blockFor(from);
    this.#pieces = [];
    this.#piece = 0;
    this.#at = 0;
    this.#end = 0;
  }

  /** Moves to the next record; false when {@link fill} is needed to tell whether there is one. */
  advance(): boolean {
    while (this.#at >= this.#end) {
      if (this.#piece === this.#pieces.length) return false;
      this.#at = this.#pieces[this.#piece]!;
      this.#end = this.#pieces[this.#piece + 1]!;
      this.#piece += 2;
    }
    this.#at = this.moveTo(this.#at);
    return true;
  }

  /**
   * Reads on, and moves to the next record; false: there is none. @throws CairnError CORRUPT, BUSY
   */
  async fill(): Promise<boolean> {
    const table = this.#table;
    while (table !== undefined && this.#block < table.index.blocks) {
      await this.#read(table);
      while (this.advance()) {
        if (this.#from !== undefined && this.compareToKey(this.#from) < 0) continue;
        this.#from = undefined;
        return true;
      }
    }
    return false;
  }

  async #read(table: Table): Promise<void> {
    const { index } = table;
    const start = index.start(this.#block);
    let next = this.#block + 1;
    while (next < index.blocks && index.start(next + 1) - start <= this.readBytes) next += 1;
    const bytes = index.start(next) - start;
    if (this.#buffer.byteLength < bytes) {
      const most = Math.min(this.readBytes, index.start(index.blocks) - start);
      this.#buffer = Buffer.allocUnsafeSlow(Math.max(bytes, most));
    }
    const piece = this.#buffer.subarray(0, bytes);
    await table.files.read(table.file, piece, start);
    this.#pieces = [];
    for (let block = this.#block; block < next; block++) {
      const at = index.start(block) - start;
      verifyBlock(table, block, piece.subarray(at, index.start(block + 1) - start));
      this.#pieces.push(at, at + index.pageBytes(block));
    }
    this.bytes = this.#buffer;
    this.#piece = 0;
    this.#at = 0;
    this.#end = 0;
    this.#block = next;
  }
}

function verifyBlock(table: Table, block: number, bytes: Uint8Array): void {
  const { index } = table;
  const start = index.start(block);
  const directory = bytes.subarray(index.pageBytes(block));
  table.check(directory, table.directoryAt(block), index.directoryChecksum(block));
  const pages = pagesOf(directory, 0);
  for (let page = 0; page < pages; page++) {
    const at = pageStart(directory, 0, page);
    table.check(bytes.subarray(at, pageEnd(directory, 0, page)), start + at, pageChecksum(directory, 0, page));
  }
  if (Buffer.compare(sha256(bytes), index.digest(block)) !== 0) {
    throw damagedTable(table.file.path, start, "a block does not match its digest");
  }
}
