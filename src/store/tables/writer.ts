import { crc32 } from "node:zlib";
import { assert } from "../../base/assert.js";
import type { File, FileSystem } from "../../system/fs.js";
import { type RecordKind, recordKind, type StoreRecord } from "../record.js";
import type { StoreRules } from "../rules/rules.js";
import { hash, isBlockEnd, isTableEnd, RECORD_HEAD_BYTES } from "../rules/v1.js";
import { commonPrefix, DirectoryBuilder } from "./directory.js";
import { fillFilter, filterBytes } from "./filter.js";
import {
  encodeTableFooter,
  encodeTableHeader,
  RECORD_KEY_BYTES,
  TABLE_BYTES,
  TABLE_FOOTER_BYTES,
  type TableInfo,
  tableName,
} from "./format.js";
import { type RecordReader, writeRecordHead } from "./record_reader.js";
import { type BlockEntry, encodeIndex, sha256 } from "./table_index.js";

/** Finished blocks that are gathered before they are written. */
const WRITE_BYTES = 1024 * 1024;

/** Values up to this size are copied byte by byte, which is quicker than a call. */
const SHORT_BYTES = 32;

export interface TableWriterOptions {
  /** Names the file. */
  readonly number: number;
  /** Whether the table gets a filter; that of the base needs none. */
  readonly filter: boolean;
}

/** Writes a table: its bytes are a function of the rules and the records. */
export class TableWriter {
  /** End of what {@link #buffer} holds, and starts of the page and the block under way there. */
  #at = 0;
  #pageAt = 0;
  #blockAt = 0;
  #buffer: Buffer;
  /** Bytes of the file before the buffer's. */
  #written = 0;
  readonly #directory = new DirectoryBuilder();
  readonly #blocks: BlockEntry[] = [];
  #hashes = new Uint32Array(1024);
  #records = 0;
  #deletes = 0;
  #mayEnd = false;
  #first: Uint8Array = new Uint8Array(0);
  /** First key of the block under way. */
  #blockFirst: Uint8Array = new Uint8Array(0);
  #blockSeparator: Uint8Array = new Uint8Array(0);
  /** Of the page under way; that of a block's first page is not used. */
  #pageSeparator: Uint8Array = new Uint8Array(0);
  /** Place of the last record's key: in the buffer, or before it in {@link #lastKey}. */
  #lastAt = -1;
  #lastBytes = 0;
  #lastKey: Uint8Array = new Uint8Array(0);

  private constructor(
    private readonly fs: FileSystem,
    private readonly file: File,
    private readonly path: string,
    private readonly rules: StoreRules,
    private readonly options: TableWriterOptions,
  ) {
    this.#buffer = Buffer.allocUnsafeSlow(WRITE_BYTES + 2 * rules.blockBytesMax);
    this.#append(encodeTableHeader());
    this.#pageAt = this.#blockAt = this.#at;
  }

  /** Creates the file, which must not exist. @throws CairnError DISK_FULL, BUSY */
  static async create(
    fs: FileSystem,
    directory: string,
    rules: StoreRules,
    options: TableWriterOptions,
  ): Promise<TableWriter> {
    const path = `${directory}/${tableName(options.number)}`;
    return new TableWriter(fs, await fs.open(path, "create"), path, rules, options);
  }

  /** Records so far. */
  get records(): number {
    return this.#records;
  }

  /** Bytes of the file so far: finished blocks, and the records behind them. */
  get bytes(): number {
    return this.#written + this.#at;
  }

  /** Whether there is enough to write: call {@link flush}. */
  get isFull(): boolean {
    return this.#blockAt >= WRITE_BYTES;
  }

  /** Whether the rules end the table behind the record that was added last. */
  get mayEnd(): boolean {
    return this.#mayEnd;
  }

  /** Adds a record, which need not be kept. Keys ascend. */
  add({ key, kind, tag, version, first, value }: StoreRecord): void {
    this.addBytes(key, 0, key.byteLength, value, 0, value.byteLength, kind, tag, version, first);
  }

  /** Adds a reader's present record, with another kind and first version if they are given. */
  addFrom(reader: RecordReader, kind: RecordKind = reader.kind, first: number = reader.first): void {
    const { bytes, keyAt, keyBytes, valueAt, valueBytes, tag, version } = reader;
    this.addBytes(bytes, keyAt, keyBytes, bytes, valueAt, valueBytes, kind, tag, version, first);
  }

  /**
   * Adds a record whose bytes lie in memory at these places. `keys` and `values` may be the same.
   */
  addBytes(
    keys: Uint8Array,
    keyAt: number,
    keyBytes: number,
    values: Uint8Array,
    valueAt: number,
    valueBytes: number,
    kind: RecordKind,
    tag: number,
    version: number,
    first: number,
  ): void {
    const { rules } = this;
    const bytes = RECORD_HEAD_BYTES + keyBytes + valueBytes;
    assert(keyBytes > 0 && keyBytes <= RECORD_KEY_BYTES, "a key fits into a record", { keyBytes });
    assert(kind !== recordKind.gone, "a record that is gone is not written");
    this.#makeRoom(bytes);
    this.#checkOrder(keys, keyAt, keyBytes);
    if (this.#at > this.#pageAt && this.#at - this.#pageAt + bytes > rules.pageBytes)
      this.#endPage(keys, keyAt, keyBytes);
    if (this.#at === this.#blockAt) this.#beginBlock(keys, keyAt, keyBytes);

    const buffer = this.#buffer;
    const at = this.#at;
    writeRecordHead(buffer, at, keyBytes, valueBytes, kind, tag, version, first);
    const key = at + RECORD_HEAD_BYTES;
    copy(keys, keyAt, buffer, key, keyBytes);
    copy(values, valueAt, buffer, key + keyBytes, valueBytes);
    this.#at = at + bytes;
    this.#lastAt = key;
    this.#lastBytes = keyBytes;
    if (this.options.filter) this.#addHash(hash(buffer, key, keyBytes, rules.seeds[1]));
    this.#records += 1;
    if (kind === recordKind.deleted) this.#deletes += 1;

    const cut = hash(buffer, key, keyBytes, rules.seeds[0]);
    const isEnd = isBlockEnd(rules, this.#at - this.#blockAt, cut);
    if (isEnd) this.#endBlock();
    this.#mayEnd = isEnd && isTableEnd(rules, this.bytes, cut);
  }

  /** Writes the finished blocks; returns their bytes. Not durable before {@link finish}. */
  async flush(): Promise<number> {
    const bytes = this.#blockAt;
    if (bytes === 0) return 0;
    await this.file.write([this.#buffer.subarray(0, bytes)], this.#written);
    this.#keepLastKey();
    this.#buffer.copyWithin(0, bytes, this.#at);
    this.#written += bytes;
    this.#at -= bytes;
    this.#pageAt -= bytes;
    this.#blockAt = 0;
    return bytes;
  }

  /** Makes durable what has been written, so that {@link finish} takes less time at once. */
  sync(): Promise<void> {
    return this.file.datasync();
  }

  /**
   * Ends the table, which has a record at least. Its contents are durable on return; its name is
   * not.
   */
  async finish(): Promise<TableInfo> {
    assert(this.#records > 0, "a table has records");
    if (this.#at > this.#blockAt) this.#endBlock();
    this.#keepLastKey();
    const filter = this.#filter();
    const summary = { records: this.#records, deletes: this.#deletes, first: this.#first, last: this.#lastKey };
    const index = encodeIndex(this.#blocks, filter, this.rules.seeds[1], summary);
    const id = sha256(index);
    if (filter !== undefined) this.#append(filter);
    const position = this.bytes;
    this.#append(index);
    this.#append(encodeTableFooter({ position, bytes: index.byteLength }, id));
    this.#blockAt = this.#at;
    const bytes = this.bytes;
    assert(bytes <= TABLE_BYTES, "places in a table fit into 32 bits", { bytes });
    assert(position + index.byteLength + TABLE_FOOTER_BYTES === bytes, "the index lies before the footer");
    await this.flush();
    await this.file.datasync();
    await this.file.close();
    return { number: this.options.number, id, bytes, ...summary };
  }

  /** Removes what has been written. */
  async abandon(): Promise<void> {
    await this.file.close().catch(() => {});
    await this.fs.unlink(this.path);
  }

  #checkOrder(keys: Uint8Array, keyAt: number, keyBytes: number): void {
    if (this.#records === 0) {
      this.#first = new Uint8Array(keys.subarray(keyAt, keyAt + keyBytes));
      return;
    }
    const last = this.#lastAt < 0 ? this.#lastKey : this.#buffer;
    const lastAt = this.#lastAt < 0 ? 0 : this.#lastAt;
    const common = this.#lastBytes < keyBytes ? this.#lastBytes : keyBytes;
    let i = 0;
    while (i < common && last[lastAt + i] === keys[keyAt + i]) i += 1;
    const ascends = i === common ? this.#lastBytes < keyBytes : last[lastAt + i]! < keys[keyAt + i]!;
    assert(ascends, "the keys of a table ascend", { records: this.#records });
  }

  #beginBlock(keys: Uint8Array, keyAt: number, keyBytes: number): void {
    this.#blockFirst = new Uint8Array(keys.subarray(keyAt, keyAt + keyBytes));
    this.#blockSeparator = this.#records === 0 ? new Uint8Array(0) : this.#separator(keys, keyAt, keyBytes);
  }

  /** Returns the shortest part of a key, from its start, that is above the last record's key. */
  #separator(keys: Uint8Array, keyAt: number, keyBytes: number): Uint8Array {
    const key = keys.subarray(keyAt, keyAt + keyBytes);
    return new Uint8Array(key.subarray(0, commonPrefix(this.#last, key) + 1));
  }

  get #last(): Uint8Array {
    return this.#lastAt < 0 ? this.#lastKey : this.#buffer.subarray(this.#lastAt, this.#lastAt + this.#lastBytes);
  }

  #endPage(keys: Uint8Array, keyAt: number, keyBytes: number): void {
    this.#addPage();
    this.#pageSeparator = this.#separator(keys, keyAt, keyBytes);
  }

  #addPage(): void {
    const checksum = crc32(this.#buffer.subarray(this.#pageAt, this.#at));
    this.#directory.add(this.#at - this.#blockAt, checksum, this.#pageSeparator);
    this.#pageAt = this.#at;
  }

  #endBlock(): void {
    this.#addPage();
    const pageBytes = this.#at - this.#blockAt;
    const directory = this.#directory.finish(this.#blockFirst, this.#last);
    this.#append(directory);
    this.#blocks.push({
      pageBytes,
      directoryBytes: directory.byteLength,
      directoryChecksum: crc32(directory),
      digest: sha256(this.#buffer.subarray(this.#blockAt, this.#at)),
      separator: this.#blockSeparator,
    });
    this.#pageAt = this.#blockAt = this.#at;
  }

  #filter(): Uint8Array | undefined {
    if (!this.options.filter) return undefined;
    const filter = new Uint8Array(filterBytes(this.#records));
    fillFilter(filter, this.#hashes, this.#records);
    return filter;
  }

  #addHash(h: number): void {
    if (this.#records === this.#hashes.length) {
      const hashes = new Uint32Array(2 * this.#hashes.length);
      hashes.set(this.#hashes);
      this.#hashes = hashes;
    }
    this.#hashes[this.#records] = h;
  }

  #append(bytes: Uint8Array): void {
    this.#makeRoom(bytes.byteLength);
    this.#buffer.set(bytes, this.#at);
    this.#at += bytes.byteLength;
  }

  #makeRoom(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#buffer.byteLength) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#buffer.byteLength));
    larger.set(this.#buffer.subarray(0, this.#at));
    this.#buffer = larger;
  }

  /** Keeps the last key when the buffer's contents move. */
  #keepLastKey(): void {
    if (this.#lastAt < 0) return;
    this.#lastKey = new Uint8Array(this.#last);
    this.#lastAt = -1;
  }
}

function copy(from: Uint8Array, fromAt: number, to: Buffer, at: number, bytes: number): void {
  if (bytes > SHORT_BYTES) {
    to.set(from.subarray(fromAt, fromAt + bytes), at);
    return;
  }
  for (let i = 0; i < bytes; i++) to[at + i] = from[fromAt + i]!;
}
