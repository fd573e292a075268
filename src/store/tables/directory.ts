import { compareSpans } from "../bytes.js";
import { readU16, readU32, writeU32 } from "./format.js";

// The directory of a block: where its pages end, their checksums, and keys that separate them. All
// keys of a block share a prefix, which is stored once; a separator is what the first key of a page
// has behind it, up to the first byte that tells it from the key before.
//
//   u16 pages, u16 bytes of the prefix
//   for each page: u32 end of the page, u32 CRC-32 of the page, u32 end of its separator
//   prefix, separators

const HEAD_BYTES = 4;
const ENTRY_BYTES = 12;

/** Gathers the pages of a block. */
export class DirectoryBuilder {
  #pages = 0;
  readonly #ends: number[] = [];
  readonly #checksums: number[] = [];
  /** Separators with the block's prefix, which is known only at the end. */
  readonly #separators: Uint8Array[] = [];

  get pages(): number {
    return this.#pages;
  }

  /**
   * Adds a page. `end`: relative to the block. `separator`: above all keys of the pages before, and
   * not above the page's first key; that of the first page is not looked at.
   */
  add(end: number, checksum: number, separator: Uint8Array): void {
    this.#ends[this.#pages] = end;
    this.#checksums[this.#pages] = checksum;
    this.#separators[this.#pages] = separator;
    this.#pages += 1;
  }

  /** Returns the directory of the pages so far, and begins anew. */
  finish(first: Uint8Array, last: Uint8Array): Uint8Array {
    const pages = this.#pages;
    const prefix = first.subarray(0, commonPrefix(first, last));
    let bytes = HEAD_BYTES + pages * ENTRY_BYTES + prefix.byteLength;
    for (let page = 1; page < pages; page++) bytes += this.#separators[page]!.byteLength - prefix.byteLength;
    const directory = new Uint8Array(bytes);
    directory[0] = pages;
    directory[1] = pages >>> 8;
    directory[2] = prefix.byteLength;
    directory[3] = prefix.byteLength >>> 8;
    const keysAt = HEAD_BYTES + pages * ENTRY_BYTES + prefix.byteLength;
    directory.set(prefix, keysAt - prefix.byteLength);
    let end = 0;
    for (let page = 0; page < pages; page++) {
      if (page > 0) {
        const separator = this.#separators[page]!.subarray(prefix.byteLength);
        directory.set(separator, keysAt + end);
        end += separator.byteLength;
      }
      const at = HEAD_BYTES + page * ENTRY_BYTES;
      writeU32(directory, at, this.#ends[page]!);
      writeU32(directory, at + 4, this.#checksums[page]!);
      writeU32(directory, at + 8, end);
    }
    this.#pages = 0;
    return directory;
  }
}

/** Returns the number of leading bytes that two keys share. */
export function commonPrefix(a: Uint8Array, b: Uint8Array): number {
  const most = a.byteLength < b.byteLength ? a.byteLength : b.byteLength;
  let bytes = 0;
  while (bytes < most && a[bytes] === b[bytes]) bytes += 1;
  return bytes;
}

/** Returns the number of pages. `at`: where the directory begins. */
export function pagesOf(directory: Uint8Array, at: number): number {
  return readU16(directory, at);
}

/** Returns where a page begins, relative to its block. */
export function pageStart(directory: Uint8Array, at: number, page: number): number {
  return page === 0 ? 0 : readU32(directory, at + HEAD_BYTES + (page - 1) * ENTRY_BYTES);
}

/** Returns where a page ends, relative to its block. */
export function pageEnd(directory: Uint8Array, at: number, page: number): number {
  return readU32(directory, at + HEAD_BYTES + page * ENTRY_BYTES);
}

export function pageChecksum(directory: Uint8Array, at: number, page: number): number {
  return readU32(directory, at + HEAD_BYTES + page * ENTRY_BYTES + 4);
}

/**
 * Returns the number of bytes that all keys of a block begin with; -1 when `key` does not begin
 * with them, so that the block does not hold it.
 */
export function prefixOf(directory: Uint8Array, at: number, key: Uint8Array): number {
  const bytes = readU16(directory, at + 2);
  return compareToPrefix(directory, at, key) === 0 ? bytes : -1;
}

/** Returns the only page that may hold a key. */
export function pageFor(directory: Uint8Array, at: number, key: Uint8Array): number {
  const order = compareToPrefix(directory, at, key);
  if (order === 0) return pageWithin(directory, at, key);
  return order < 0 ? 0 : pagesOf(directory, at) - 1;
}

function compareToPrefix(directory: Uint8Array, at: number, key: Uint8Array): number {
  const prefixBytes = readU16(directory, at + 2);
  const prefixAt = at + HEAD_BYTES + pagesOf(directory, at) * ENTRY_BYTES;
  const keyBytes = key.byteLength < prefixBytes ? key.byteLength : prefixBytes;
  return compareSpans(key, 0, keyBytes, directory, prefixAt, prefixBytes);
}

/** Returns the only page that may hold a key, which begins as all keys of the block do. */
export function pageWithin(directory: Uint8Array, at: number, key: Uint8Array): number {
  const pages = pagesOf(directory, at);
  const prefixBytes = readU16(directory, at + 2);
  const entries = at + HEAD_BYTES;
  const keysAt = entries + pages * ENTRY_BYTES + prefixBytes;
  const restBytes = key.byteLength - prefixBytes;
  let low = 0;
  let high = pages - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    const entry = entries + middle * ENTRY_BYTES;
    const start = readU32(directory, entry - ENTRY_BYTES + 8);
    const bytes = readU32(directory, entry + 8) - start;
    if (compareSpans(directory, keysAt + start, bytes, key, prefixBytes, restBytes) <= 0) low = middle;
    else high = middle - 1;
  }
  return low;
}
