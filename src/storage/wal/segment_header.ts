import { crc32 } from "node:zlib";
import { assert } from "../../base/assert.js";
import { type CounterLimit, counterProblem } from "../../base/counters.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { decodeHardState, encodeHardState } from "../../encoding/entry.js";
import type { HardState, LogPosition } from "../../raft/types.js";
import { DAMAGED_MEMBER } from "../advice.js";

// Encodes and decodes the header of a segment file.

/**
 * Header of a segment: enough to resume the log at this segment when the ones before it are gone.
 */
export interface SegmentHeader {
  /** From 1, without gaps. */
  readonly sequence: number;
  /** Index right behind the log's last entry when the segment was started. */
  readonly firstIndex: number;
  /** Term of that last entry. */
  readonly previousTerm: number;
  /** The place right before the log's first entry. */
  readonly boundary: LogPosition;
  /** The log begins here; segments before this one count for nothing. */
  readonly startsLog: boolean;
  readonly hardState: HardState;
}

/** One sector. Records start behind it. */
export const SEGMENT_HEADER_BYTES = 512;

const MAGIC = Buffer.from("CAIRNWAL", "latin1");
const FORMAT_VERSION = 1;
const STARTS_LOG = 1;

// Offsets of the fields; ../README.md has the table.
const VERSION_AT = 8;
const CRC_AT = 12;
const NUMBERS_AT = 16;
const FLAGS_AT = 56;
const HARD_STATE_LENGTH_AT = 60;
const HARD_STATE_AT = 64;

const NAME = /^(\d{10})-(\d{16})\.wal$/;
export const TEMPORARY_SUFFIX = ".tmp";

export function segmentName(sequence: number, firstIndex: number): string {
  return `${String(sequence).padStart(10, "0")}-${String(firstIndex).padStart(16, "0")}.wal`;
}

/** Returns the numbers in a segment's name; undefined for other names. */
export function parseSegmentName(name: string): { sequence: number; firstIndex: number } | undefined {
  const match = NAME.exec(name);
  return match === null ? undefined : { sequence: Number(match[1]), firstIndex: Number(match[2]) };
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const hardState = encodeHardState(header.hardState);
  assert(hardState.byteLength <= SEGMENT_HEADER_BYTES - HARD_STATE_AT, "a hard state fits a segment header", {
    vote: header.hardState.vote,
    idCharacters: limits.idCharacters,
  });
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  bytes.set(MAGIC);
  bytes.writeUInt32LE(FORMAT_VERSION, VERSION_AT);
  const { sequence, firstIndex, previousTerm, boundary } = header;
  [sequence, firstIndex, previousTerm, boundary.index, boundary.term].forEach((value, at) => {
    bytes.writeBigUInt64LE(BigInt(value), NUMBERS_AT + at * 8);
  });
  bytes.writeUInt32LE(header.startsLog ? STARTS_LOG : 0, FLAGS_AT);
  bytes.writeUInt32LE(hardState.byteLength, HARD_STATE_LENGTH_AT);
  bytes.set(hardState, HARD_STATE_AT);
  bytes.writeUInt32LE(headerCrc(bytes), CRC_AT);
  return bytes;
}

/**
 * Decodes a header. Throws CairnError CORRUPT when the bytes are no whole header, DATA_DIRECTORY
 * when the format is unknown. The magic, the version and the CRC are at the same place in every
 * version. `path` is for the message.
 */
export function decodeSegmentHeader(bytes: Buffer, path: string): SegmentHeader {
  if (bytes.byteLength < SEGMENT_HEADER_BYTES || !bytes.subarray(0, MAGIC.byteLength).equals(MAGIC)) {
    throw corruptLog(`${path} is not a log segment: its header is missing`);
  }
  if (bytes.readUInt32LE(CRC_AT) !== headerCrc(bytes)) throw corruptLog(`${path}: the segment header fails its CRC`);
  const version = bytes.readUInt32LE(VERSION_AT);
  if (version !== FORMAT_VERSION) {
    throw new CairnError(
      "DATA_DIRECTORY",
      `${path} has log format version ${version}, and this program knows only ${FORMAT_VERSION}: use the version of Cairn that wrote it`,
    );
  }
  const number = (at: number, limit: CounterLimit, above = 0n) => {
    const value = bytes.readBigUInt64LE(NUMBERS_AT + at * 8);
    const problem = counterProblem(value - above, limit);
    if (problem !== undefined) throw corruptLog(`${path}: number ${at} of the segment header is ${problem}`);
    return Number(value);
  };
  // The first index is one above the log's last index, and so is its limit.
  const [sequence, firstIndex, previousTerm] = [number(0, "countMax"), number(1, "indexMax", 1n), number(2, "termMax")];
  const [index, term] = [number(3, "indexMax"), number(4, "termMax")];
  const hardStateEnd = HARD_STATE_AT + bytes.readUInt32LE(HARD_STATE_LENGTH_AT);
  return {
    sequence,
    firstIndex,
    previousTerm,
    boundary: { index, term },
    startsLog: bytes.readUInt32LE(FLAGS_AT) === STARTS_LOG,
    hardState: decodeHardState(bytes.subarray(HARD_STATE_AT, hardStateEnd)),
  };
}

/**
 * Returns the CRC of a header, the CRC field left out. It is also the seed of the segment's
 * records.
 */
export function headerCrc(bytes: Buffer): number {
  return crc32(bytes.subarray(CRC_AT + 4, SEGMENT_HEADER_BYTES), crc32(bytes.subarray(0, CRC_AT)));
}

/** Returns the error of a log that cannot be trusted; nothing on the disk was changed. */
export function corruptLog(text: string): CairnError {
  return new CairnError("CORRUPT", `${text}. Nothing was changed. ${DAMAGED_MEMBER}`);
}
