import { crc32 } from "node:zlib";
import { limits } from "../../base/limits.js";

// Encodes and checks the records of a log segment.

/** Kinds of records. A number is never reused. */
export const RecordType = { entry: 1, hardState: 2, trim: 3 } as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

/** Bytes of the header in front of a record's payload. The byte table is in ../README.md. */
export const RECORD_HEADER_BYTES = 16;

/** Records start at multiples of this. */
export const RECORD_ALIGNMENT = 8;

const LENGTH_AT = 4;
const SYNCED_AT = 8;
const TYPE_AT = 12;
const RESERVED_AT = 13;

/** Position of a record, and the part of its segment that was durable when it was written. */
export interface RecordPlace {
  /** Offset of the record in its segment. */
  readonly position: number;
  /** The segment's records up to this offset were durable. */
  readonly synced: number;
  /**
   * Seed of the segment: the CRC of its header. Records of other segments never pass for its own.
   */
  readonly seed: number;
}

export interface RecordHeader {
  readonly type: RecordType;
  readonly synced: number;
  readonly payloadBytes: number;
  /** Size of the whole record, padding included. */
  readonly bytes: number;
}

/** Returns the size of a whole record: header, payload, and zeros up to the next multiple of 8. */
export function recordBytes(payloadBytes: number): number {
  return (RECORD_HEADER_BYTES + payloadBytes + RECORD_ALIGNMENT - 1) & -RECORD_ALIGNMENT;
}

/**
 * Completes the record at `at`, whose payload is already in place. Returns the position behind it.
 */
export function sealRecord(
  buffer: Buffer,
  at: number,
  type: RecordType,
  payloadBytes: number,
  place: RecordPlace,
): number {
  const end = at + recordBytes(payloadBytes);
  buffer.writeUInt32LE(payloadBytes, at + LENGTH_AT);
  buffer.writeUInt32LE(place.synced, at + SYNCED_AT);
  buffer.writeUInt32LE(type, at + TYPE_AT);
  for (let padding = at + RECORD_HEADER_BYTES + payloadBytes; padding < end; padding++) buffer[padding] = 0;
  buffer.writeUInt32LE(checksum(buffer, at, end, place), at);
  return end;
}

/**
 * Returns the header at `at` if its fields are plausible. `position` is its offset in the file,
 * `limit` the end of the file.
 */
export function plausibleHeader(buffer: Buffer, at: number, position: number, limit: number): RecordHeader | undefined {
  const type = buffer[at + TYPE_AT]!;
  if (type < RecordType.entry || type > RecordType.trim) return undefined;
  if (buffer.readUIntLE(at + RESERVED_AT, 3) !== 0) return undefined;
  const payloadBytes = buffer.readUInt32LE(at + LENGTH_AT);
  if (payloadBytes > limits.entryBytes) return undefined;
  const synced = buffer.readUInt32LE(at + SYNCED_AT);
  const bytes = recordBytes(payloadBytes);
  if (synced > position || position + bytes > limit) return undefined;
  return { type: type as RecordType, synced, payloadBytes, bytes };
}

/** Returns whether the record of `bytes` bytes at `at` is intact, at this place and no other. */
export function recordIsIntact(
  buffer: Buffer,
  at: number,
  bytes: number,
  place: Pick<RecordPlace, "position" | "seed">,
): boolean {
  return buffer.readUInt32LE(at) === checksum(buffer, at, at + bytes, place);
}

/**
 * Computes the CRC of a record. For the same bytes, CRCs that start from different numbers differ,
 * so a record is valid at its own place only.
 */
function checksum(buffer: Buffer, at: number, end: number, place: Pick<RecordPlace, "position" | "seed">): number {
  return crc32(buffer.subarray(at + LENGTH_AT, end), (place.seed ^ place.position) >>> 0);
}
