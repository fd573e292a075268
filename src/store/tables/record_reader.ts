import { compareSpans } from "../bytes.js";
import { type RecordKind, recordKind, type StoreRecord } from "../record.js";
import { RECORD_HEAD_BYTES } from "../rules/v1.js";
import { readU16, readU32, readU64, writeU32, writeU64 } from "./format.js";

// Records in the pages of a table, one behind the other:
//
//   u16 bytes of the key, u8 kind, u8 tag, u32 bytes of the value, u64 version, u64 first
//   key, value

const NO_BYTES = new Uint8Array(0);

/** Writes all of a record but key and value. */
export function writeRecordHead(
  bytes: Uint8Array,
  at: number,
  keyBytes: number,
  valueBytes: number,
  kind: RecordKind,
  tag: number,
  version: number,
  first: number,
): void {
  bytes[at] = keyBytes;
  bytes[at + 1] = keyBytes >>> 8;
  bytes[at + 2] = kind;
  bytes[at + 3] = tag;
  writeU32(bytes, at + 4, valueBytes);
  writeU64(bytes, at + 8, version);
  writeU64(bytes, at + 16, first);
}

/**
 * A place among records, for loops that allocate nothing: the fields describe the present record,
 * whose bytes are lent until the reader moves on.
 */
export class RecordReader {
  bytes: Uint8Array = NO_BYTES;
  keyAt = 0;
  keyBytes = 0;
  valueAt = 0;
  valueBytes = 0;
  kind: RecordKind = recordKind.gone;
  tag = 0;
  version = 0;
  first = 0;

  get key(): Uint8Array {
    return this.bytes.subarray(this.keyAt, this.keyAt + this.keyBytes);
  }

  get value(): Uint8Array {
    return this.bytes.subarray(this.valueAt, this.valueAt + this.valueBytes);
  }

  /** Returns the present record, lent. */
  record(): StoreRecord {
    const { key, value, kind, tag, version, first } = this;
    return { key, kind, tag, version, first, value };
  }

  /** Compares the present key with another reader's: below 0 when this one comes first. */
  compareTo(other: RecordReader): number {
    return compareSpans(this.bytes, this.keyAt, this.keyBytes, other.bytes, other.keyAt, other.keyBytes);
  }

  /** Compares the present key with `key`: below 0 when the present one comes first. */
  compareToKey(key: Uint8Array): number {
    return compareSpans(this.bytes, this.keyAt, this.keyBytes, key, 0, key.byteLength);
  }

  /** Moves to the record at a place of {@link bytes}; returns the place behind it. */
  protected moveTo(at: number): number {
    const { bytes } = this;
    this.keyBytes = readU16(bytes, at);
    this.kind = bytes[at + 2]! as RecordKind;
    this.tag = bytes[at + 3]!;
    this.valueBytes = readU32(bytes, at + 4);
    this.version = readU64(bytes, at + 8);
    this.first = readU64(bytes, at + 16);
    this.keyAt = at + RECORD_HEAD_BYTES;
    this.valueAt = this.keyAt + this.keyBytes;
    return this.valueAt + this.valueBytes;
  }
}

/**
 * Returns where the record of a key begins in a page; -1 when the page does not hold it. `prefix`:
 * bytes that all its keys and `key` begin with.
 */
export function findInPage(bytes: Uint8Array, at: number, end: number, key: Uint8Array, prefix: number): number {
  const restBytes = key.byteLength - prefix;
  for (let record = at; record < end; ) {
    const keyBytes = readU16(bytes, record);
    const restAt = record + RECORD_HEAD_BYTES + prefix;
    const order = compareSpans(bytes, restAt, keyBytes - prefix, key, prefix, restBytes);
    if (order === 0) return record;
    if (order > 0) return -1;
    record += RECORD_HEAD_BYTES + keyBytes + readU32(bytes, record + 4);
  }
  return -1;
}

/** Returns the record at a place, lent; its key is `key`. */
export function recordAt(bytes: Uint8Array, at: number, key: Uint8Array): StoreRecord {
  const valueAt = at + RECORD_HEAD_BYTES + key.byteLength;
  return {
    key,
    kind: bytes[at + 2]! as RecordKind,
    tag: bytes[at + 3]!,
    version: readU64(bytes, at + 8),
    first: readU64(bytes, at + 16),
    value: bytes.subarray(valueAt, valueAt + readU32(bytes, at + 4)),
  };
}
