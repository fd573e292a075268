import { CairnError } from "../../base/errors.js";
import { corrupt, hex, sameBytes } from "../../encoding/snapshot_format.js";
import { SnapshotParser } from "../../encoding/snapshot_parser.js";
import type { File, FileSystem } from "../../system/fs.js";
import { snapshotLabel } from "./inspect.js";
import type { SnapshotInfo } from "./snapshot_info.js";

/**
 * A piece of a snapshot file, and the payload chunks that it completes. Both are valid until the
 * caller asks for the next piece.
 */
export interface VerifiedPiece {
  readonly bytes: Uint8Array;
  readonly chunks: readonly Uint8Array[];
}

/**
 * Reads a snapshot file from its start in pieces of `pieceBytes`, and verifies each: throws CORRUPT
 * before it yields a bad piece. The whole file is verified when it yields the last one.
 */
export async function* readVerified(
  fs: FileSystem,
  info: SnapshotInfo,
  pieceBytes: number,
): AsyncGenerator<VerifiedPiece, void, void> {
  const parser = new SnapshotParser(snapshotLabel(info.path));
  for await (const bytes of readPieces(fs, info, 0, pieceBytes)) {
    const chunks = parser.push(bytes);
    if (parser.done) checkDigest(info, parser.finish().sha256);
    yield { bytes, chunks };
  }
  parser.finish();
}

/**
 * Reads a snapshot file from `offset` to its end in pieces of `pieceBytes`, one piece ahead. A
 * piece is valid until the caller asks for the next. Does not check the contents. Throws NOT_FOUND
 * when the file is gone, CORRUPT when its size is wrong.
 */
export async function* readPieces(
  fs: FileSystem,
  info: SnapshotInfo,
  offset: number,
  pieceBytes: number,
): AsyncGenerator<Uint8Array, void, void> {
  const file = await openFile(fs, info.path);
  try {
    const size = await file.size();
    if (size !== info.fileBytes) {
      throw corrupt(snapshotLabel(info.path), size, `the file ends here, expected ${info.fileBytes} bytes`);
    }
    yield* readAhead(file, info, offset, pieceBytes);
  } finally {
    await file.close();
  }
}

async function* readAhead(file: File, info: SnapshotInfo, offset: number, pieceBytes: number) {
  const bufferBytes = Math.min(pieceBytes, info.fileBytes - offset);
  let buffer = Buffer.allocUnsafe(bufferBytes);
  let spare = Buffer.allocUnsafe(bufferBytes);
  let ahead = read(file, info, buffer, offset);
  try {
    for (let at = offset; at < info.fileBytes; ) {
      const piece = await ahead;
      at += piece.byteLength;
      [buffer, spare] = [spare, buffer];
      ahead = read(file, info, buffer, at);
      yield piece;
    }
  } finally {
    // The read under way needs the open file and its buffer.
    await ahead.catch(() => undefined);
  }
}

/**
 * Starts a read; empty at the end of the file. The caller awaits it later, so its failure counts as
 * handled until then.
 */
function read(file: File, info: SnapshotInfo, buffer: Buffer, at: number): Promise<Buffer> {
  const wanted = buffer.subarray(0, info.fileBytes - at);
  const reading = readFully(file, info, wanted, at);
  reading.catch(() => undefined);
  return reading;
}

async function readFully(file: File, info: SnapshotInfo, wanted: Buffer, at: number): Promise<Buffer> {
  if (wanted.byteLength === 0) return wanted;
  const got = await file.read(wanted, at);
  if (got === wanted.byteLength) return wanted;
  throw corrupt(snapshotLabel(info.path), at + got, `the file ends here, expected ${info.fileBytes} bytes`);
}

async function openFile(fs: FileSystem, path: string): Promise<File> {
  try {
    return await fs.open(path, "read");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new CairnError("NOT_FOUND", `${snapshotLabel(path)} is gone; use a newer snapshot`, { cause: error });
  }
}

function checkDigest(info: SnapshotInfo, sha256: Uint8Array): void {
  if (sameBytes(sha256, info.sha256)) return;
  throw new CairnError(
    "CORRUPT",
    `${snapshotLabel(info.path)} was replaced: its SHA-256 is ${hex(sha256)}, expected ${hex(info.sha256)}`,
  );
}
