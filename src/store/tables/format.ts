import { CairnError } from "../../base/errors.js";

// Layout of a table: header, blocks, filter, index, footer. See the README beside this file.

/** Format of tables that this version writes, and the only one that it reads. */
export const TABLE_FORMAT = 1;

/** Magic, and the format. */
export const TABLE_HEADER_BYTES = 16;

/** Magic, place and size of the index, and its SHA-256. */
export const TABLE_FOOTER_BYTES = 56;

/** Longest key of a record: its size has 16 bits. */
export const RECORD_KEY_BYTES = 65_535;

/** Largest table: places in it have 32 bits. */
export const TABLE_BYTES = 4_294_967_295;

export const TABLE_DIGEST_BYTES = 32;

const HEADER_MAGIC = Buffer.from("cairntab", "latin1");
const FOOTER_MAGIC = Buffer.from("batnriac", "latin1");

/** Identifies a table, and describes its contents. */
export interface TableInfo {
  /** Names the file. */
  readonly number: number;
  /** SHA-256 of the index, which holds the digests of all that a reader takes from the file. */
  readonly id: Uint8Array;
  /** Size of the file. */
  readonly bytes: number;
  readonly records: number;
  /** Records of the kind `deleted`. */
  readonly deletes: number;
  /** Lowest and highest key. */
  readonly first: Uint8Array;
  readonly last: Uint8Array;
}

/** Returns the file name of a table. Names ascend with their numbers. */
export function tableName(number: number): string {
  return `${String(number).padStart(12, "0")}.tab`;
}

/** Returns the number of a table with this file name; undefined when no table is named so. */
export function tableNumberOf(name: string): number | undefined {
  return /^\d{12}\.tab$/.test(name) ? Number(name.slice(0, 12)) : undefined;
}

/** Returns the error for a table that cannot be trusted. */
export function damagedTable(path: string, position: number, found: string, cause?: unknown): CairnError {
  const text = `the table ${path} is damaged at byte ${position}: ${found}`;
  return new CairnError("CORRUPT", text, cause === undefined ? {} : { cause });
}

export function encodeTableHeader(): Uint8Array {
  const header = Buffer.alloc(TABLE_HEADER_BYTES);
  header.set(HEADER_MAGIC);
  header.writeUInt32LE(TABLE_FORMAT, 8);
  return header;
}

/** @throws CairnError CORRUPT */
export function checkTableHeader(bytes: Buffer, path: string): void {
  if (!bytes.equals(encodeTableHeader()))
    throw damagedTable(path, 0, "it does not begin as a table of this version does");
}

/** Place of the index in its file. */
export interface IndexPlace {
  readonly position: number;
  readonly bytes: number;
}

export function encodeTableFooter(index: IndexPlace, id: Uint8Array): Uint8Array {
  const footer = Buffer.alloc(TABLE_FOOTER_BYTES);
  footer.set(FOOTER_MAGIC);
  footer.writeUInt32LE(index.position, 8);
  footer.writeUInt32LE(index.bytes, 12);
  footer.set(id, 24);
  return footer;
}

/**
 * Returns the place of the index. Every byte of the footer is compared, so that no change of it
 * goes unnoticed. @throws CairnError CORRUPT
 */
export function decodeTableFooter(footer: Buffer, path: string, info: TableInfo): IndexPlace {
  const position = footer.readUInt32LE(8);
  const index = { position, bytes: info.bytes - TABLE_FOOTER_BYTES - position };
  if (index.bytes < 0 || !footer.equals(encodeTableFooter(index, info.id))) {
    throw damagedTable(path, info.bytes - TABLE_FOOTER_BYTES, "it does not end as the table that the manifest names");
  }
  return index;
}

/** Reads a little-endian number of 16 bits. */
export function readU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

/** Reads a little-endian number of 32 bits. */
export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Reads a little-endian number of 64 bits, which is at most 2^53 - 1. */
export function readU64(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) + readU32(bytes, at + 4) * 0x1_0000_0000;
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

export function writeU64(bytes: Uint8Array, at: number, value: number): void {
  const low = value >>> 0;
  writeU32(bytes, at, low);
  writeU32(bytes, at + 4, (value - low) / 0x1_0000_0000);
}
