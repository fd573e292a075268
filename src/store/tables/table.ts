import { crc32 } from "node:zlib";
import { compareSpans } from "../bytes.js";
import type { StoreRecord } from "../record.js";
import type { StoreRules } from "../rules/rules.js";
import { pageChecksum, pageEnd, pageStart, pageWithin, prefixOf } from "./directory.js";
import type { TableFile, TableFiles } from "./files.js";
import { filterHas } from "./filter.js";
import {
  checkTableHeader,
  damagedTable,
  decodeTableFooter,
  TABLE_FOOTER_BYTES,
  TABLE_HEADER_BYTES,
  type TableInfo,
} from "./format.js";
import type { PageCache } from "./page_cache.js";
import { findInPage, recordAt } from "./record_reader.js";
import { sha256, TableIndex } from "./table_index.js";

/**
 * Reads a table: keys by way of the page cache, all bytes checked against the checksums that their
 * parents hold. Index and filter stay in memory.
 *
 * Bytes of records are lent until the next call of any table that shares the cache.
 *
 * Errors of reads: as {@link TableFiles}, and CORRUPT when a checksum does not match.
 */
export class Table {
  private constructor(
    readonly info: TableInfo,
    readonly index: TableIndex,
    private readonly filter: Uint8Array | undefined,
    readonly files: TableFiles,
    readonly file: TableFile,
    readonly cache: PageCache,
    /** This table in the cache. */
    readonly owner: number,
  ) {}

  /**
   * Opens the table that a manifest describes. `rules`: those that it was written by.
   * @throws CairnError CORRUPT when it is another one, or not whole
   */
  static async open(files: TableFiles, cache: PageCache, info: TableInfo, rules: StoreRules): Promise<Table> {
    const file = files.add(info.number);
    try {
      const { index, filter } = await readIndex(files, file, info, rules);
      return new Table(info, index, filter, files, file, cache, cache.newOwner());
    } catch (error) {
      files.forget(file);
      throw error;
    }
  }

  /** Whether the table holds a key, as far as memory tells. `hash`: of the key, for filters. */
  has(key: Uint8Array, hash: number): "no" | "maybe" {
    if (this.filter !== undefined && !filterHas(this.filter, hash)) return "no";
    const { first, last } = this.info;
    const isWithin =
      compareSpans(key, 0, key.byteLength, first, 0, first.byteLength) >= 0 &&
      compareSpans(key, 0, key.byteLength, last, 0, last.byteLength) <= 0;
    return isWithin ? "maybe" : "no";
  }

  /** Returns the record of a key, lent. Reads the disk on a miss of the cache. `hash`: as above. */
  find(key: Uint8Array, hash: number): StoreRecord | undefined {
    if (this.has(key, hash) === "no") return undefined;
    const { cache } = this;
    const block = this.index.blockFor(key);
    this.#directoryNow(block);
    const directory = cache.bytes;
    const directoryAt = cache.at;
    const prefix = prefixOf(directory, directoryAt, key);
    if (prefix < 0) return undefined;
    const page = pageWithin(directory, directoryAt, key);
    const start = pageStart(directory, directoryAt, page);
    const bytes = pageEnd(directory, directoryAt, page) - start;
    const checksum = pageChecksum(directory, directoryAt, page);
    this.#pieceNow(this.index.start(block) + start, bytes, checksum);
    const at = findInPage(cache.bytes, cache.at, cache.at + bytes, key, prefix);
    return at < 0 ? undefined : recordAt(cache.bytes, at, key);
  }

  /** Whether {@link find} would answer without a read. */
  isCached(key: Uint8Array, hash: number): boolean {
    if (this.has(key, hash) === "no") return true;
    const { cache, index, owner } = this;
    const block = index.blockFor(key);
    if (!cache.has(owner, this.directoryAt(block), index.directoryBytes(block))) return false;
    this.#directoryNow(block);
    if (prefixOf(cache.bytes, cache.at, key) < 0) return true;
    const page = pageWithin(cache.bytes, cache.at, key);
    const start = pageStart(cache.bytes, cache.at, page);
    const bytes = pageEnd(cache.bytes, cache.at, page) - start;
    return cache.has(owner, index.start(block) + start, bytes);
  }

  /** Reads into the cache, in the thread pool, what {@link find} needs; undefined: it is there. */
  load(key: Uint8Array, hash: number): Promise<void> | undefined {
    return this.isCached(key, hash) ? undefined : this.#load(key);
  }

  async #load(key: Uint8Array): Promise<void> {
    const block = this.index.blockFor(key);
    const directory = await this.directory(block);
    if (prefixOf(directory, 0, key) < 0) return;
    const page = pageWithin(directory, 0, key);
    const start = pageStart(directory, 0, page);
    const bytes = pageEnd(directory, 0, page) - start;
    await this.#piece(this.index.start(block) + start, bytes, pageChecksum(directory, 0, page));
  }

  /** Returns where a block's directory lies. */
  directoryAt(block: number): number {
    return this.index.start(block) + this.index.pageBytes(block);
  }

  /** Returns a copy of a block's directory, which is in the cache afterwards. */
  directory(block: number): Promise<Uint8Array> {
    const { index } = this;
    return this.#piece(this.directoryAt(block), index.directoryBytes(block), index.directoryChecksum(block));
  }

  /** Returns a copy of a block's directory, as {@link piece} does. */
  directoryCopy(block: number, mayKeep: boolean): Uint8Array {
    const { index, file } = this;
    const position = this.directoryAt(block);
    const bytes = index.directoryBytes(block);
    const cached = this.piece(position, bytes, index.directoryChecksum(block), mayKeep);
    if (cached !== undefined) return new Uint8Array(cached);
    const directory = new Uint8Array(bytes);
    this.files.readNow(file, directory, position);
    this.check(directory, position, index.directoryChecksum(block));
    return directory;
  }

  /**
   * Returns a piece of the file, lent, from the cache; undefined when it is not there. `mayKeep`:
   * reads it into the cache then, on the calling thread.
   */
  piece(position: number, bytes: number, checksum: number, mayKeep: boolean): Uint8Array | undefined {
    const { cache, owner } = this;
    if (mayKeep) this.#pieceNow(position, bytes, checksum);
    else if (!cache.find(owner, position, bytes)) return undefined;
    return cache.bytes.subarray(cache.at, cache.at + bytes);
  }

  /** Closes the file. */
  close(): void {
    this.cache.forget(this.owner);
    this.files.forget(this.file);
  }

  /** @throws CairnError CORRUPT when bytes that were read do not have their checksum */
  check(bytes: Uint8Array, position: number, checksum: number): void {
    if (crc32(bytes) !== checksum) throw damagedTable(this.file.path, position, "its checksum does not match");
  }

  /** Lets the cache show a block's directory. */
  #directoryNow(block: number): void {
    const { index } = this;
    this.#pieceNow(this.directoryAt(block), index.directoryBytes(block), index.directoryChecksum(block));
  }

  /** Lets the cache show a piece of the file. */
  #pieceNow(position: number, bytes: number, checksum: number): void {
    const { cache, owner } = this;
    if (cache.find(owner, position, bytes)) return;
    cache.add(owner, position, bytes);
    const buffer = cache.bytes.subarray(cache.at, cache.at + bytes);
    try {
      this.files.readNow(this.file, buffer, position);
      this.check(buffer, position, checksum);
    } catch (error) {
      cache.drop(owner, position, bytes);
      throw error;
    }
  }

  async #piece(position: number, bytes: number, checksum: number): Promise<Uint8Array> {
    const { cache, owner } = this;
    const buffer = new Uint8Array(bytes);
    if (cache.find(owner, position, bytes)) {
      buffer.set(cache.bytes.subarray(cache.at, cache.at + bytes));
      return buffer;
    }
    await this.files.read(this.file, buffer, position);
    this.check(buffer, position, checksum);
    this.keep(buffer, position);
    return buffer;
  }

  /** Puts a piece of the file that has been checked into the cache, unless another read has. */
  keep(piece: Uint8Array, position: number): void {
    const { cache, owner } = this;
    if (cache.has(owner, position, piece.byteLength)) return;
    cache.add(owner, position, piece.byteLength);
    cache.bytes.set(piece, cache.at);
  }
}

async function readIndex(files: TableFiles, file: TableFile, info: TableInfo, rules: StoreRules) {
  const { path } = file;
  const size = await files.size(file);
  if (size !== info.bytes) throw damagedTable(path, Math.min(size, info.bytes), `it should have ${info.bytes} bytes`);
  if (size < TABLE_HEADER_BYTES + TABLE_FOOTER_BYTES) throw damagedTable(path, size, "it is too short");
  const read = async (position: number, bytes: number) => {
    const buffer = Buffer.alloc(bytes);
    await files.read(file, buffer, position);
    return buffer;
  };
  const [header, footer] = await Promise.all([
    read(0, TABLE_HEADER_BYTES),
    read(size - TABLE_FOOTER_BYTES, TABLE_FOOTER_BYTES),
  ]);
  checkTableHeader(header, path);
  const place = decodeTableFooter(footer, path, info);
  const index = TableIndex.decode(await read(place.position, place.bytes), place.position, path, info);
  if (index.filterBytes === 0) return { index, filter: undefined };
  const filterAt = place.position - index.filterBytes;
  const filter = await read(filterAt, index.filterBytes);
  if (Buffer.compare(sha256(filter), index.filterDigest) !== 0) {
    throw damagedTable(path, filterAt, "its filter does not match its digest");
  }
  if (index.filterSeed !== rules.seeds[1]) throw damagedTable(path, filterAt, "its filter has another seed");
  return { index, filter };
}
