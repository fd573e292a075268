import { recordKind, type StoreRecord } from "../../../src/store/record.js";
import type { StoreRules } from "../../../src/store/rules/rules.js";
import { DEFAULT_RULES } from "../../../src/store/rules/v1.js";
import { TableCursor } from "../../../src/store/tables/cursor.js";
import { TableFiles } from "../../../src/store/tables/files.js";
import type { TableInfo } from "../../../src/store/tables/format.js";
import { PageCache } from "../../../src/store/tables/page_cache.js";
import type { RecordReader } from "../../../src/store/tables/record_reader.js";
import { Table } from "../../../src/store/tables/table.js";
import { TableWriter } from "../../../src/store/tables/writer.js";
import type { FileSystem } from "../../../src/system/fs.js";
import { FaultyFileSystem } from "../../support/disk/faulty_fs.js";
import type { Random } from "../../support/random.js";

export const DIRECTORY = "/store";

export const fullRules: StoreRules = { ...DEFAULT_RULES, seeds: [0x1234_5678, 0x9abc_def0] };

/** Rules by which a hundred records make several blocks. */
export const smallRules: StoreRules = {
  ...fullRules,
  pageBytes: 256,
  blockBytesMin: 512,
  blockBytesMax: 2048,
  blockBits: 2,
  tableBytesMin: 4096,
  tableBytesMax: 16_384,
  tableBits: 1,
};

export function storeDisk(): FaultyFileSystem {
  return new FaultyFileSystem([DIRECTORY]);
}

/** All of a record, to compare: quicker than by its fields. */
export function textOf({ key, kind, tag, version, first, value }: StoreRecord): string {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
  return `${hex(key)} ${kind} ${tag} ${version} ${first} ${hex(value)}`;
}

/** Records with ascending keys, many of which share prefixes. */
export function randomRecords(random: Random, count: number, mostValueBytes = 60): StoreRecord[] {
  const records = new Map<string, StoreRecord>();
  while (records.size < count) {
    const key = randomKey(random);
    const kind = random.pick([recordKind.known, recordKind.inherits, recordKind.deleted, recordKind.only]);
    const valueBytes = kind === recordKind.deleted ? 0 : random.whole(0, mostValueBytes);
    records.set(Buffer.from(key).toString("hex"), {
      key,
      kind,
      tag: random.whole(0, 255),
      version: random.pick([random.whole(0, 1000), Number.MAX_SAFE_INTEGER - random.whole(0, 1000), 2 ** 32]),
      first: kind === recordKind.deleted ? 0 : random.whole(0, 2 ** 40),
      value: Uint8Array.from({ length: valueBytes }, () => random.whole(0, 255)),
    });
  }
  return [...records.values()].sort((a, b) => Buffer.compare(a.key, b.key));
}

export function randomKey(random: Random): Uint8Array {
  const prefix = random.pick(["", "a", "users/0000", "users/0000/settings/", "\u0000", "\u00ff\u00ff"]);
  const length = random.whole(prefix === "" ? 1 : 0, random.pick([1, 3, 12]));
  return Buffer.concat([
    Buffer.from(prefix, "latin1"),
    Buffer.from(Array.from({ length }, () => random.pick([0, 1, 97, 98, 254, 255]))),
  ]);
}

export async function writeTable(
  fs: FileSystem,
  records: readonly StoreRecord[],
  options: { rules?: StoreRules; number?: number; filter?: boolean; directory?: string } = {},
): Promise<TableInfo> {
  const { rules = smallRules, number = 1, filter = true, directory = DIRECTORY } = options;
  const writer = await TableWriter.create(fs, directory, rules, { number, filter });
  for (const record of records) {
    writer.add(record);
    if (writer.isFull) await writer.flush();
  }
  return writer.finish();
}

export function filesOf(fs: FileSystem): TableFiles {
  return new TableFiles(fs, DIRECTORY);
}

export async function openTable(
  fs: FileSystem,
  info: TableInfo,
  options: { rules?: StoreRules; cacheBytes?: number; files?: TableFiles; cache?: PageCache } = {},
): Promise<Table> {
  const { rules = smallRules, cacheBytes = 64 * 1024, files = filesOf(fs) } = options;
  return Table.open(files, options.cache ?? new PageCache(cacheBytes, rules.pageBytes), info, rules);
}

/** All records of a table, as a merge reads them. */
export async function readAll(table: Table, from?: Uint8Array, readBytes?: number): Promise<string[]> {
  const cursor = new TableCursor(readBytes);
  cursor.start(table, from);
  const records: string[] = [];
  while (cursor.advance() || (await cursor.fill())) records.push(textOf(cursor.record()));
  return records;
}

/** The rest of a reader's records. */
export function rest(reader: RecordReader & { advance(): boolean }): string[] {
  const records: string[] = [];
  while (reader.advance()) records.push(textOf(reader.record()));
  return records;
}
