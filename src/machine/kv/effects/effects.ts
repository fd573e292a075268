import { CairnError } from "../../../base/errors.js";

// Encodes the effects of entries: the changes that the log alone does not tell.
//
// A command suggests its effects: a put or a compare-and-set sets its key, a delete removes its
// key, a load replaces everything, and all others change nothing. An entry whose effects differ
// from these is noted:
//
//   varint: 8 * (index - index of the noted entry before, or 0) + kind
//   with the kinds of lists: varint: number of changes; then for each change
//       varint: 4 * number of the step + 0 (key set) or 1 (key created); or
//       varint: 4 * bytes of the key + 2 (removed) or 3 (removed with its lease); for the latter
//               a varint of 2 * lease + 1 if it has expired; the key

/** Kinds of notes. The numbers are on disk. */
const noteKind = { nothing: 0, created: 1, then: 2, otherwise: 3, removed: 4 } as const;

/** A change that an entry has made, of a list of them. */
export type ListedChange =
  | { readonly type: "put" | "created"; readonly step: number }
  | { readonly type: "deleted"; readonly key: Uint8Array; readonly lease: number; readonly isExpired: boolean };

/** Effects of an entry that its command does not suggest. */
export type Effects =
  | { readonly type: "nothing" }
  | { readonly type: "created" }
  /** The changes of a transaction's list, or keys that were removed with their leases. */
  | { readonly type: "then" | "otherwise" | "removed"; readonly changes: readonly ListedChange[] };

/** Encodes the effects of consecutive entries. */
export class EffectsEncoder {
  #buffer = Buffer.allocUnsafeSlow(1024);
  #length = 0;
  #last = 0;

  /** The notes so far, valid until the next call. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
    this.#last = 0;
  }

  put(index: number, effects: Effects): void {
    this.#number(8 * (index - this.#last) + noteKind[effects.type]);
    this.#last = index;
    if (!("changes" in effects)) return;
    this.#number(effects.changes.length);
    for (const change of effects.changes) {
      if (change.type === "deleted") this.#deleted(change);
      else this.#number(4 * change.step + (change.type === "created" ? 1 : 0));
    }
  }

  #deleted({ key, lease, isExpired }: ListedChange & { type: "deleted" }): void {
    this.#number(4 * key.byteLength + (lease === 0 ? 2 : 3));
    if (lease !== 0) this.#number(2 * lease + (isExpired ? 1 : 0));
    this.#reserve(key.byteLength);
    this.#buffer.set(key, this.#length);
    this.#length += key.byteLength;
  }

  #number(value: number): void {
    this.#reserve(8);
    let left = value;
    while (left > 0x7f) {
      this.#buffer[this.#length++] = (left % 0x80) + 0x80;
      left = Math.floor(left / 0x80);
    }
    this.#buffer[this.#length++] = left;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.byteLength) return;
    const grown = Buffer.allocUnsafeSlow(2 * (this.#length + bytes));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}

/**
 * Decodes notes, and adds those of the entries from `first` to `last` to `into`. The keys are
 * copies.
 * @throws CairnError CORRUPT
 */
export function decodeEffects(notes: Uint8Array, [first, last]: IndexSpan, into: Map<number, Effects>): void {
  const reader = new NotesReader(notes);
  let index = 0;
  while (!reader.isAtEnd) {
    const head = reader.number();
    index += Math.floor(head / 8);
    const effects = effectsOf(head % 8, reader);
    if (index >= first && index <= last) into.set(index, effects);
  }
}

/** The first and the last of some indexes. */
export type IndexSpan = readonly [first: number, last: number];

const TYPES = ["nothing", "created", "then", "otherwise", "removed"] as const;

function effectsOf(kind: number, reader: NotesReader): Effects {
  const type = TYPES[kind];
  if (type === undefined) throw malformed();
  if (type === "nothing" || type === "created") return { type };
  return { type, changes: Array.from({ length: reader.count() }, () => reader.change()) };
}

class NotesReader {
  #at = 0;

  constructor(private readonly notes: Uint8Array) {}

  get isAtEnd(): boolean {
    return this.#at === this.notes.byteLength;
  }

  number(): number {
    let value = 0;
    for (let unit = 1; ; unit *= 0x80) {
      const byte = this.notes[this.#at++];
      if (byte === undefined || unit > 2 ** 49) throw malformed();
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
    }
  }

  /** Reads the number of items that follow, each of which has a byte at least. */
  count(): number {
    const count = this.number();
    if (count > this.notes.byteLength - this.#at) throw malformed();
    return count;
  }

  change(): ListedChange {
    const head = this.number();
    const [rest, kind] = [Math.floor(head / 4), head % 4];
    if (kind < 2) return { type: kind === 0 ? "put" : "created", step: rest };
    const lease = kind === 2 ? 0 : this.number();
    const end = this.#at + rest;
    if (end > this.notes.byteLength) throw malformed();
    const key = Uint8Array.prototype.slice.call(this.notes, this.#at, end);
    this.#at = end;
    return { type: "deleted", key, lease: Math.floor(lease / 2), isExpired: lease % 2 === 1 };
  }
}

function malformed(): CairnError {
  return new CairnError("CORRUPT", "the notes about the effects of entries are malformed");
}
