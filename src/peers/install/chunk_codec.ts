import { crc32 } from "node:zlib";
import { fieldBytes, putField } from "../../encoding/entry.js";
import type { InstallMessage } from "./install_messages.js";

// Encodes the protobuf message cairn.v1.InstallSnapshotRequest with a chunk by hand, so that its
// data is copied only once. The bytes are those that protobuf-es writes.

const CHUNK = 0x12;
const TERM = 0x08;
const OFFSET = 0x10;
const CRC32 = 0x1d;
const DATA = 0x22;
const FILE_BYTES = 0x28;

/** Size of the crc32 field: a tag and a fixed32. */
const CRC32_BYTES = 5;

/**
 * Encodes a chunk as a request of an InstallSnapshot stream, into `memory` if that is large enough.
 */
export function encodeChunk(
  { leaderTerm, offset, data, fileBytes = 0 }: InstallMessage & { kind: "chunk" },
  memory: Buffer,
): Buffer {
  const crc = crc32(data);
  const { byteLength } = data;
  const numbers = fieldBytes(leaderTerm) + fieldBytes(offset) + (crc === 0 ? 0 : CRC32_BYTES) + fieldBytes(fileBytes);
  const chunkBytes = numbers + fieldBytes(byteLength) + byteLength;
  const messageBytes = fieldBytes(chunkBytes) + chunkBytes;
  const isEnough = memory.byteLength >= messageBytes;
  const buffer = isEnough ? memory.subarray(0, messageBytes) : Buffer.allocUnsafe(messageBytes);
  let at = putField(CHUNK, chunkBytes, buffer, 0);
  at = putField(TERM, leaderTerm, buffer, at);
  at = putField(OFFSET, offset, buffer, at);
  if (crc !== 0) {
    buffer[at] = CRC32;
    at = buffer.writeUInt32LE(crc, at + 1);
  }
  at = putField(DATA, byteLength, buffer, at);
  buffer.set(data, at);
  putField(FILE_BYTES, fileBytes, buffer, at + byteLength);
  return buffer;
}
