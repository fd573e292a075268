import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { damagedState } from "./checksums.js";

// Reads LMDB's data file as the version in use writes it (liblmdb/mdb.c: MDB_page_header, MDB_node,
// MDB_ovpage, MDB_meta, MDB_db). All numbers are little-endian.
//
//   page      | page number 8, transaction 8, padding 2, flags 2, then for trees: lower 2, upper 2,
//             | an offset of 2 bytes for each node; nodes lie between upper and the page's end,
//             | without gaps. All offsets count from behind the header.
//   node      | data size 4 (or, in branches, child page 6), flags 2, key size 2, key, data;
//             | rounded up to an even size
//   large     | data of a node with F_BIGDATA: page 8, transaction 8, number of pages 8; the data
//             | lies behind the header of those pages
//   meta page | magic 4, version 4, address 8, map size 8, tree of free pages 48,
//             | tree of tables 48, last page 8, transaction 8
//   tree      | page size 4, flags 2, depth 2, branch pages 8, leaf pages 8, large pages 8,
//             | entries 8, root 8 (all ones: none)

export const PAGE_HEADER_BYTES = 24;
export const NODE_HEADER_BYTES = 8;
export const LARGE_BYTES = 24;
export const TREE_BYTES = 48;

export const pageFlag = { branch: 1, leaf: 2, large: 4, meta: 8 } as const;
export const nodeFlag = { large: 1, table: 2 } as const;

const META_BYTES = PAGE_HEADER_BYTES + 24 + 2 * TREE_BYTES + 16;
const TRANSACTION_MAX = 2 ** 48;
const MAP_BYTES_MAX = 2 ** 44;
/** Pages in between that are read along, rather than begin another read. */
const GAP_PAGES = 4;

/** Describes a tree, as the data file does apart from the tree's pages. */
export interface Tree {
  readonly flags: number;
  readonly depth: number;
  readonly branchPages: number;
  readonly leafPages: number;
  readonly largePages: number;
  readonly entries: number;
  /** Undefined when the tree is empty. */
  readonly root: number | undefined;
}

/** The meta page in force. */
export interface Meta {
  readonly pageBytes: number;
  readonly freePages: Tree;
  readonly tables: Tree;
  readonly lastPage: number;
  readonly transaction: number;
}

/**
 * Reads an LMDB data file page by page, without LMDB. Reads are synchronous: the pages that LMDB
 * wrote are in the kernel's memory, or soon will be.
 */
export class PageFile {
  readonly meta: Meta;
  /** Number of whole pages. */
  readonly pages: number;
  #ahead = Buffer.alloc(0);

  static open(path: string): PageFile {
    const descriptor = openSync(path, "r");
    try {
      return new PageFile(descriptor);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  private constructor(private readonly descriptor: number) {
    const head = Buffer.alloc(META_BYTES);
    this.#read(head, 0);
    const pageBytes = head.readUInt32LE(PAGE_HEADER_BYTES + 24);
    check(pageBytes >= 512 && pageBytes <= 65_536 && (pageBytes & (pageBytes - 1)) === 0, "the page size is invalid");
    const first = metaOf(head, 0);
    this.#read(head, pageBytes);
    const second = metaOf(head, 1);
    this.meta = first.transaction >= second.transaction ? first : second;
    check(this.meta.pageBytes === pageBytes, "its meta pages differ in the page size");
    this.pages = Math.floor(fstatSync(descriptor).size / pageBytes);
  }

  /** Fills the buffer with the file's bytes from the start of a page on. */
  read(page: number, buffer: Buffer): void {
    this.#read(buffer, page * this.meta.pageBytes);
  }

  /**
   * Reads pages of the file into one buffer, with one call for pages that lie close together.
   * Returns a function that gives each page; undefined for a page that was not asked for. Its pages
   * are valid until the next call.
   */
  readAhead(wanted: readonly number[]): (page: number) => Buffer | undefined {
    const { pageBytes } = this.meta;
    const ascending = [...wanted].filter((page) => page < this.pages).sort((a, b) => a - b);
    const runs: { first: number; count: number }[] = [];
    for (const page of ascending) {
      const run = runs.at(-1);
      if (run !== undefined && page - (run.first + run.count) <= GAP_PAGES) run.count = page + 1 - run.first;
      else runs.push({ first: page, count: 1 });
    }
    const bytes = runs.reduce((sum, { count }) => sum + count, 0) * pageBytes;
    if (bytes > this.#ahead.byteLength) this.#ahead = Buffer.allocUnsafeSlow(bytes);
    const places = new Map<number, number>();
    let at = 0;
    for (const { first, count } of runs) {
      this.#read(this.#ahead.subarray(at, at + count * pageBytes), first * pageBytes);
      for (let page = first; page < first + count; page++) places.set(page, at + (page - first) * pageBytes);
      at += count * pageBytes;
    }
    return (page) => {
      const place = places.get(page);
      return place === undefined ? undefined : this.#ahead.subarray(place, place + pageBytes);
    };
  }

  close(): void {
    closeSync(this.descriptor);
  }

  #read(buffer: Buffer, position: number): void {
    let done = 0;
    while (done < buffer.byteLength) {
      const bytes = this.#readSome(buffer, done, position + done);
      check(bytes > 0, "its data file is cut off");
      done += bytes;
    }
  }

  #readSome(buffer: Buffer, at: number, position: number): number {
    try {
      return readSync(this.descriptor, buffer, at, buffer.byteLength - at, position);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EIO") throw error;
      throw damagedState(`its data file cannot be read at byte ${position}`);
    }
  }
}

export function check(isSo: boolean, otherwise: string): asserts isSo {
  if (!isSo) throw damagedState(otherwise);
}

/** Reads a number of 8 bytes. One above 2^53 loses digits, and is too large in every comparison. */
export function number8(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
}

export function treeOf(bytes: Buffer, at: number): Tree {
  const hasRoot = bytes.readUInt32LE(at + 40) !== 0xffffffff || bytes.readUInt32LE(at + 44) !== 0xffffffff;
  return {
    flags: bytes.readUInt16LE(at + 4),
    depth: bytes.readUInt16LE(at + 6),
    branchPages: number8(bytes, at + 8),
    leafPages: number8(bytes, at + 16),
    largePages: number8(bytes, at + 24),
    entries: number8(bytes, at + 32),
    root: hasRoot ? number8(bytes, at + 40) : undefined,
  };
}

function metaOf(page: Buffer, number: number): Meta {
  const at = PAGE_HEADER_BYTES;
  const isMeta = page.readUInt16LE(18) === pageFlag.meta && number8(page, 0) === number;
  check(isMeta && page.readUInt32LE(at) === 0xbeefc0de && page.readUInt32LE(at + 4) === 2, "a meta page is malformed");
  const pageBytes = page.readUInt32LE(at + 24);
  const mapBytes = number8(page, at + 16);
  const lastPage = number8(page, at + 24 + 2 * TREE_BYTES);
  const transaction = number8(page, at + 32 + 2 * TREE_BYTES);
  check(number8(page, at + 8) === 0 && transaction < TRANSACTION_MAX, "a meta page is inconsistent");
  check(mapBytes % pageBytes === 0 && mapBytes <= MAP_BYTES_MAX, "the map size is invalid");
  check((lastPage + 1) * pageBytes <= mapBytes, "the last page is outside of the map");
  return {
    pageBytes,
    freePages: treeOf(page, at + 24),
    tables: treeOf(page, at + 24 + TREE_BYTES),
    lastPage,
    transaction,
  };
}
