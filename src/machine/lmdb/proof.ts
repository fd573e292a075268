import { setImmediate as nextTurn } from "node:timers/promises";
import { CHECKSUM_BYTES, contentChecksum, keyChecksumIn, type RowKind, rowKind, StateDigest } from "./checksums.js";
import { decodeMark, MARK_KEY, type StateMark } from "./mark.js";
import {
  check,
  LARGE_BYTES,
  NODE_HEADER_BYTES,
  nodeFlag,
  number8,
  PAGE_HEADER_BYTES,
  PageFile,
  pageFlag,
  TREE_BYTES,
  type Tree,
  treeOf,
} from "./pages.js";

// Proves an LMDB data file before LMDB opens it.

/** Pages that are checked in one turn of the event loop. */
const PAGES_PER_TURN = 256;
/** Depth of the deepest tree that LMDB can walk. */
const DEPTH_MAX = 32;
const FREE_PAGES_FLAGS = 8;

const TABLES: Readonly<Record<string, RowKind>> = {
  "answers\0": rowKind.answer,
  "effects\0": rowKind.effects,
  "keys\0": rowKind.key,
  "lease-keys\0": rowKind.leaseKey,
  "leases\0": rowKind.lease,
  "meta\0": rowKind.meta,
  "sessions\0": rowKind.session,
};

/**
 * Proves that LMDB's data file holds the state that was written, before LMDB opens it (T7): LMDB
 * trusts all that it reads, and ends the process at a page that makes no sense. Walks through all
 * trees: each page is of the right kind and is used once; keys ascend, and a search from the root
 * finds each one; free pages are free; each row's checksum is good, and the rows match the digest.
 * Returns the digest and the applied position. Takes about as long as reading the file. Throws
 * CairnError CORRUPT with the first violation.
 */
export async function proveData(path: string): Promise<StateMark> {
  const file = PageFile.open(path);
  try {
    const proof = new Proof(file);
    const steps = proof.run();
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done) return step.value;
      await nextTurn();
    }
  } finally {
    file.close();
  }
}

/** A row of a tree, as parts of a buffer that are valid until the next row. */
interface Row {
  readonly key: Part;
  readonly data: Part;
  /** Whether the data describes a table. */
  readonly isTable: boolean;
}

/** A part of a buffer. Millions of them are looked at, so none is made into a buffer of its own. */
interface Part {
  in: Buffer;
  from: number;
  to: number;
}

type OnRow = (row: Row) => void;

/** Tracks a walk through a tree: its last key, and the pages and entries seen so far. */
class Walk {
  branchPages = 0;
  leafPages = 0;
  largePages = 0;
  entries = 0;
  readonly #last: Part = { in: Buffer.alloc(0), from: 0, to: 0 };
  #hasLast = false;
  /** Lower bound of the next key. */
  #floor: Part | undefined;

  constructor(private readonly compare: (one: Part, other: Part) => number) {}

  /** Notes a branch's child whose keys are not below this one, while all keys before it are. */
  separator(key: Part): void {
    check(!this.#hasLast || this.compare(this.#last, key) < 0, "a search would miss a row");
    this.#floor = wholeOf(bytesOf(key));
  }

  key(key: Part): void {
    this.entries++;
    check(!this.#hasLast || this.compare(this.#last, key) < 0, "keys do not ascend");
    check(this.#floor === undefined || this.compare(this.#floor, key) <= 0, "a search would miss a row");
    this.#floor = undefined;
    this.#hasLast = true;
    this.#last.in = key.in;
    this.#last.from = key.from;
    this.#last.to = key.to;
  }

  /** Copies the last key, because its page is about to be overwritten. */
  keepLast(): void {
    if (this.#hasLast) Object.assign(this.#last, wholeOf(bytesOf(this.#last)));
  }
}

class Proof {
  /** A bit for each page of the file. */
  readonly #seen: Uint8Array;
  /** One page for each depth. */
  readonly #pages: Buffer[];
  #large = Buffer.alloc(0);
  /** Gives the leaves of the branch that is being walked. */
  #ahead: (page: number) => Buffer | undefined = () => undefined;
  #looked = 0;
  readonly #walked = new StateDigest();
  #mark: StateMark | undefined;

  constructor(private readonly file: PageFile) {
    this.#pages = Array.from({ length: DEPTH_MAX }, () => Buffer.alloc(0));
    this.#seen = new Uint8Array(Math.ceil(file.pages / 8));
    this.#take(0);
    this.#take(1);
  }

  *run(): Generator<void, StateMark, void> {
    const { tables, freePages } = this.file.meta;
    const found: { kind: RowKind; tree: Tree }[] = [];
    check(tables.flags === 0 && freePages.flags === FREE_PAGES_FLAGS, "a table is sorted differently");
    yield* this.#tree(tables, ({ key, data, isTable }) => {
      const kind = TABLES[bytesOf(key).toString("latin1")];
      check(isTable && lengthOf(data) === TREE_BYTES && kind !== undefined, "it has an unknown table");
      found.push({ kind, tree: treeOf(data.in, data.from) });
    });
    for (const { kind, tree } of found) {
      check(tree.flags === 0, "a table is sorted differently");
      yield* this.#tree(tree, (row) => this.#row(kind, row));
    }
    yield* this.#freePages(freePages);
    check(this.#mark !== undefined, "it does not record its applied index");
    const difference = this.#mark.digest.difference(this.#walked);
    check(difference === undefined, difference ?? "");
    return this.#mark;
  }

  #row(kind: RowKind, { key, data, isTable }: Row): void {
    check(!isTable && lengthOf(data) >= CHECKSUM_BYTES, "a row is malformed");
    const checksum = data.in.readUInt32LE(data.from);
    const ofKey = keyChecksumIn(kind, key.in, key.from, key.to);
    check(checksum === contentChecksum(ofKey, data.in, data.from, data.to), "a row fails its checksum");
    if (kind === rowKind.key) this.#walked.keys.add(checksum);
    else if (kind === rowKind.session) this.#walked.sessions.add(checksum);
    else if (kind === rowKind.answer) this.#walked.answers.add(ofKey);
    else if (kind === rowKind.effects) this.#walked.effects.add(ofKey);
    else if (kind === rowKind.lease) this.#walked.leases.add(checksum);
    else if (kind === rowKind.leaseKey) this.#walked.leaseKeys.add(ofKey);
    else {
      check(bytesOf(key).equals(MARK_KEY), "it has an unknown mark");
      this.#mark = decodeMark(bytesOf(data));
    }
  }

  /** Checks that the pages that LMDB will write to hold nothing. */
  *#freePages(tree: Tree): Generator<void, void, void> {
    const { meta, pages } = this.file;
    const lists: Buffer[] = [];
    yield* this.#tree(tree, ({ key, data, isTable }) => {
      const isOfTransaction = lengthOf(key) === 8 && number8(key.in, key.from) <= meta.transaction;
      check(isOfTransaction && !isTable, "a list of free pages is malformed");
      lists.push(bytesOf(data));
    });
    let behindTheFile = 0;
    for (const list of lists) {
      for (const { first, count } of runsOf(list)) {
        check(first >= 2 && first + count - 1 <= meta.lastPage, "a free page is outside of the file");
        for (let page = first; page < first + count; page++) {
          if (page < pages) this.#take(page);
          else behindTheFile++;
        }
      }
      yield;
    }
    check(behindTheFile === Math.max(0, meta.lastPage + 1 - pages), "the last page differs from the recorded one");
  }

  *#tree(tree: Tree, onRow: OnRow): Generator<void, void, void> {
    const walk = new Walk(tree.flags === FREE_PAGES_FLAGS ? compareNumbers : compareBytes);
    check(
      tree.depth < DEPTH_MAX && (tree.root === undefined) === (tree.depth === 0),
      "the depth of a tree differs from the recorded one",
    );
    if (tree.root !== undefined) yield* this.#page(tree.root, tree.depth, walk, onRow);
    const { branchPages, leafPages, largePages, entries } = walk;
    const isCounted = branchPages === tree.branchPages && leafPages === tree.leafPages;
    check(
      isCounted && largePages === tree.largePages && entries === tree.entries,
      "the size of a tree differs from the recorded one",
    );
  }

  /** `height`: 1 for a leaf. */
  *#page(number: number, height: number, walk: Walk, onRow: OnRow): Generator<void, void, void> {
    if (++this.#looked % PAGES_PER_TURN === 0) yield;
    const page = this.#load(number, height);
    const nodes = nodesOf(page, height === 1 ? pageFlag.leaf : pageFlag.branch);
    if (height === 1) {
      walk.leafPages++;
      for (const node of nodes) this.#leafNode(page, node, walk, onRow);
      walk.keepLast();
      return;
    }
    walk.branchPages++;
    check(nodes.length > 0, "a branch has no children");
    if (height === 2) this.#ahead = this.file.readAhead(nodes.map((node) => childOf(page, node)));
    for (const [at, node] of nodes.entries()) {
      // The first child has no lower bound.
      if (at > 0) walk.separator(keyOf(page, node));
      yield* this.#page(childOf(page, node), height - 1, walk, onRow);
    }
  }

  #leafNode(page: Buffer, node: number, walk: Walk, onRow: OnRow): void {
    const flags = page.readUInt16LE(node + 4);
    const key = keyOf(page, node);
    const bytes = page.readUInt32LE(node);
    walk.key(key);
    if (flags === nodeFlag.large) {
      onRow({ key, data: wholeOf(this.#largeData(page, key.to, bytes, walk)), isTable: false });
      return;
    }
    check(flags === 0 || flags === nodeFlag.table, "a node has unknown flags");
    onRow({ key, data: { in: page, from: key.to, to: key.to + bytes }, isTable: flags === nodeFlag.table });
  }

  #largeData(page: Buffer, at: number, bytes: number, walk: Walk): Buffer {
    const { pageBytes, transaction } = this.file.meta;
    const [first, count] = [number8(page, at), number8(page, at + 16)];
    // LMDB keeps all pages of a row that it overwrites with a smaller one.
    check(
      count >= Math.ceil((PAGE_HEADER_BYTES + bytes) / pageBytes),
      "the size of a large row differs from the recorded one",
    );
    check(number8(page, at + 8) <= transaction, "a large row is newer than the last commit");
    check(first + count <= this.file.pages, "a large row is outside of the file");
    for (let each = first; each < first + count; each++) this.#take(each);
    walk.largePages += count;
    const needed = PAGE_HEADER_BYTES + bytes;
    if (needed > this.#large.byteLength)
      this.#large = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#large.byteLength));
    const data = this.#large.subarray(0, needed);
    this.file.read(first, data);
    this.#checkHeader(data, first, pageFlag.large);
    check(data.readUInt32LE(20) === count, "the size of a large row differs from the recorded one");
    return data.subarray(PAGE_HEADER_BYTES);
  }

  #load(number: number, height: number): Buffer {
    check(number < this.file.pages, "a page is outside of the file");
    this.#take(number);
    const kind = height === 1 ? pageFlag.leaf : pageFlag.branch;
    const ahead = height === 1 ? this.#ahead(number) : undefined;
    if (ahead !== undefined) {
      this.#checkHeader(ahead, number, kind);
      return ahead;
    }
    if (this.#pages[height]!.byteLength === 0) this.#pages[height] = Buffer.allocUnsafeSlow(this.file.meta.pageBytes);
    const page = this.#pages[height]!;
    this.file.read(number, page);
    this.#checkHeader(page, number, kind);
    return page;
  }

  #checkHeader(page: Buffer, number: number, flags: number): void {
    check(number8(page, 0) === number && page.readUInt16LE(18) === flags, `page ${number} has another number or kind`);
    check(number8(page, 8) <= this.file.meta.transaction, `page ${number} is newer than the last commit`);
  }

  /** Claims a page; throws when it has a use already. */
  #take(page: number): void {
    const bit = 1 << (page & 7);
    check((this.#seen[page >>> 3]! & bit) === 0, `page ${page} has two uses`);
    this.#seen[page >>> 3]! |= bit;
  }
}

/** Compares two keys of the tree of free pages, which are transactions. */
function compareNumbers(one: Part, other: Part): number {
  check(lengthOf(one) === 8 && lengthOf(other) === 8, "a list of free pages is malformed");
  return number8(one.in, one.from) - number8(other.in, other.from);
}

/** Compares as Buffer.compare does, which is slow to call for short keys. */
function compareBytes(one: Part, other: Part): number {
  const length = Math.min(lengthOf(one), lengthOf(other));
  for (let at = 0; at < length; at++) {
    const difference = one.in[one.from + at]! - other.in[other.from + at]!;
    if (difference !== 0) return difference;
  }
  return lengthOf(one) - lengthOf(other);
}

function lengthOf({ from, to }: Part): number {
  return to - from;
}

/** Copies a part. */
function bytesOf({ in: buffer, from, to }: Part): Buffer {
  return Buffer.from(buffer.subarray(from, to));
}

function wholeOf(buffer: Buffer): Part {
  return { in: buffer, from: 0, to: buffer.byteLength };
}

/**
 * Returns the offsets of a page's nodes, in their order. Checks that the nodes fill the page from
 * its upper bound to its end.
 */
function nodesOf(page: Buffer, flags: number): number[] {
  const [lower, upper] = [page.readUInt16LE(20), page.readUInt16LE(22)];
  const end = page.byteLength - PAGE_HEADER_BYTES;
  check(lower % 2 === 0 && lower <= upper && upper <= end, "the bounds of a page are invalid");
  const nodes: number[] = [];
  let filled = 0;
  for (let at = PAGE_HEADER_BYTES; at < PAGE_HEADER_BYTES + lower; at += 2) {
    const offset = page.readUInt16LE(at);
    check(offset >= upper && offset % 2 === 0 && offset + NODE_HEADER_BYTES <= end, "a node is outside of its page");
    const node = PAGE_HEADER_BYTES + offset;
    const bytes = nodeBytes(page, node, flags);
    check(offset + bytes <= end, "a node is larger than its page");
    filled += bytes;
    nodes.push(node);
  }
  check(filled === end - upper, "a page has gaps");
  return nodes;
}

/** Returns the size of a node: even, as LMDB lays them out. */
function nodeBytes(page: Buffer, node: number, flags: number): number {
  let bytes = NODE_HEADER_BYTES + page.readUInt16LE(node + 6);
  if (flags === pageFlag.leaf) {
    const isLarge = (page.readUInt16LE(node + 4) & nodeFlag.large) !== 0;
    bytes += isLarge ? LARGE_BYTES : page.readUInt32LE(node);
  }
  return bytes + (bytes % 2);
}

/** Returns the page of a branch's child. */
function childOf(page: Buffer, node: number): number {
  return page.readUInt16LE(node + 4) * 2 ** 32 + page.readUInt32LE(node);
}

function keyOf(page: Buffer, node: number): Part {
  const from = node + NODE_HEADER_BYTES;
  return { in: page, from, to: from + page.readUInt16LE(node + 6) };
}

/**
 * Yields the runs in a list of free pages. The list starts with the count of its numbers. A run is
 * one page, or a negative count and the first page. Zeros are places of removed pages.
 */
function* runsOf(list: Buffer): Generator<{ first: number; count: number }, void, void> {
  check(list.byteLength >= 8 && list.byteLength % 8 === 0, "a list of free pages is malformed");
  const length = number8(list, 0);
  check((length + 1) * 8 <= list.byteLength, "a list of free pages is cut off");
  for (let at = 1; at <= length; at++) {
    const entry = Number(list.readBigInt64LE(at * 8));
    if (entry > 0) yield { first: entry, count: 1 };
    if (entry >= 0) continue;
    check(++at <= length, "a list of free pages is cut off");
    yield { first: number8(list, at * 8), count: -entry };
  }
}
