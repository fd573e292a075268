import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";

/** Makes the checksums of a snapshot file fit what it holds, as far as its lengths lead through it. */
export function sealed(file: Buffer): Buffer {
  const bytes = Buffer.from(file);
  if (bytes.byteLength < 20) return bytes;
  const headerBytes = bytes.readUInt32LE(12);
  const headerEnd = 20 + headerBytes;
  if (headerEnd > bytes.byteLength) return bytes;
  bytes.writeUInt32LE(crc32(bytes.subarray(20, headerEnd)), 16);
  let at = headerEnd;
  while (at + 8 <= bytes.byteLength) {
    const length = bytes.readUInt32LE(at);
    if (length === 0) break;
    const end = at + 8 + length;
    if (end > bytes.byteLength) return bytes;
    bytes.writeUInt32LE(crc32(bytes.subarray(at + 8, end)), at + 4);
    at = end;
  }
  if (at + 56 > bytes.byteLength) return bytes;
  createHash("sha256")
    .update(bytes.subarray(0, at))
    .digest()
    .copy(bytes, at + 24);
  bytes.writeUInt32LE(crc32(bytes.subarray(at + 8, at + 56)), at + 4);
  return bytes;
}
