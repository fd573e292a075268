import { crc32 } from "node:zlib";
import { counterProblem } from "../base/counters.js";
import { CairnError } from "../base/errors.js";
import { limits } from "../base/limits.js";

// Encodes and decodes the fixed parts of a snapshot file; src/storage/README.md, "Snapshots", draws
// the whole file. All numbers are little-endian.

/** The format version that this program writes and reads. */
export const FORMAT_VERSION = 1;
/** Magic, format version, header length, header CRC32. */
export const PREAMBLE_BYTES = 20;
/** Length and CRC32 in front of each chunk. */
export const CHUNK_HEAD_BYTES = 8;
/** End mark, CRC32, chunk count, payload bytes, SHA-256. */
export const TRAILER_BYTES = 56;
export const SHA256_BYTES = 32;
/** The smallest file: a header of one byte, no chunk. */
export const SMALLEST_FILE_BYTES = PREAMBLE_BYTES + 1 + TRAILER_BYTES;

const MAGIC = Buffer.from("CAIRNSNP", "latin1");

/** The decoded preamble of a snapshot file. */
export interface Preamble {
  /** Length of the header in bytes, 1 to limits.snapshotHeaderBytes. */
  readonly headerBytes: number;
  readonly headerCrc: number;
}

/** The decoded trailer of a snapshot file. */
export interface Trailer {
  readonly chunks: number;
  readonly payloadBytes: number;
  /** SHA-256 of everything before the trailer. */
  readonly sha256: Uint8Array;
}

/** Returns the size of a file with this header and trailer, in bytes. */
export function fileBytesOf(headerBytes: number, trailer: Pick<Trailer, "chunks" | "payloadBytes">): number {
  return PREAMBLE_BYTES + headerBytes + trailer.chunks * CHUNK_HEAD_BYTES + trailer.payloadBytes + TRAILER_BYTES;
}

/**
 * Returns the error for bytes that differ from those written; `name` is the file or transfer,
 * `offset` the position in the file.
 */
export function corrupt(name: string, offset: number, what: string): CairnError {
  return new CairnError("CORRUPT", `${name} is damaged at offset ${offset}: ${what}; use another copy of the snapshot`);
}

/** Encodes the preamble and the header of a file. */
export function encodeOpening(header: Uint8Array): Buffer {
  const opening = Buffer.allocUnsafe(PREAMBLE_BYTES + header.byteLength);
  MAGIC.copy(opening, 0);
  opening.writeUInt32LE(FORMAT_VERSION, 8);
  opening.writeUInt32LE(header.byteLength, 12);
  opening.writeUInt32LE(crc32(header), 16);
  opening.set(header, PREAMBLE_BYTES);
  return opening;
}

/**
 * Decodes the first {@link PREAMBLE_BYTES} of a file.
 * @throws CairnError CORRUPT unless they are a preamble of a known version
 */
export function decodePreamble(bytes: Uint8Array, name: string): Preamble {
  const buffer = asBuffer(bytes);
  if (!buffer.subarray(0, 8).equals(MAGIC)) {
    throw corrupt(name, 0, `it starts with ${hex(buffer.subarray(0, 8))}, expected ${hex(MAGIC)} ("CAIRNSNP")`);
  }
  const version = buffer.readUInt32LE(8);
  if (version !== FORMAT_VERSION) {
    throw corrupt(name, 8, `format version ${version}, expected ${FORMAT_VERSION}, the only one this program knows`);
  }
  const headerBytes = buffer.readUInt32LE(12);
  if (headerBytes === 0 || headerBytes > limits.snapshotHeaderBytes) {
    throw corrupt(
      name,
      12,
      `header length ${headerBytes}, expected 1 to snapshotHeaderBytes (${limits.snapshotHeaderBytes})`,
    );
  }
  return { headerBytes, headerCrc: buffer.readUInt32LE(16) };
}

export function writeChunkHead(target: Buffer, chunk: Uint8Array): void {
  target.writeUInt32LE(chunk.byteLength, 0);
  target.writeUInt32LE(crc32(chunk), 4);
}

export function encodeTrailer(trailer: Trailer): Buffer {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  bytes.writeBigUInt64LE(BigInt(trailer.chunks), 8);
  bytes.writeBigUInt64LE(BigInt(trailer.payloadBytes), 16);
  bytes.set(trailer.sha256, 24);
  bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4);
  return bytes;
}

/** Decodes a trailer found at `offset`. The SHA-256 is a copy. @throws CairnError CORRUPT */
export function decodeTrailer(bytes: Uint8Array, name: string, offset: number): Trailer {
  const buffer = asBuffer(bytes);
  const endMark = buffer.readUInt32LE(0);
  if (endMark !== 0) throw corrupt(name, offset, `no end mark: ${endMark}, expected 0`);
  checkCrc(buffer.subarray(8), buffer.readUInt32LE(4), name, offset, "the trailer");
  return {
    chunks: count(buffer.readBigUInt64LE(8), name, offset + 8, "chunk count"),
    payloadBytes: count(buffer.readBigUInt64LE(16), name, offset + 16, "payload size"),
    sha256: Uint8Array.from(buffer.subarray(24, TRAILER_BYTES)),
  };
}

/** Checks the CRC32 of `bytes`. @throws CairnError CORRUPT unless it is `expected` */
export function checkCrc(bytes: Uint8Array, expected: number, name: string, offset: number, what: string): void {
  const actual = crc32(bytes);
  if (actual !== expected) {
    throw corrupt(name, offset, `${what} has CRC32 ${hexNumber(actual)}, expected ${hexNumber(expected)}`);
  }
}

/** Whether two byte strings are equal. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return asBuffer(a).equals(b);
}

export function hex(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("hex");
}

/** Returns a view of the same memory with Buffer's methods. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function hexNumber(value: number): string {
  return value.toString(16).padStart(8, "0");
}

function count(value: bigint, name: string, offset: number, what: string): number {
  const problem = counterProblem(value, "countMax");
  if (problem !== undefined) throw corrupt(name, offset, `${what} ${problem}`);
  return Number(value);
}
