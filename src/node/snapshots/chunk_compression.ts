import { promisify } from "node:util";
import { constants, deflateRaw, type InputType, inflateRaw, type ZlibOptions } from "node:zlib";
import { CairnError } from "../../base/errors.js";

// Compresses and decompresses chunks of snapshots in the thread pool. Each chunk is compressed
// separately (raft.proto, SnapshotChunk).

const compress = promisify<InputType, ZlibOptions, Buffer>(deflateRaw);

/** Returns the data as raw DEFLATE; undefined when that is not shorter. */
export async function deflateChunk(data: Uint8Array): Promise<Uint8Array | undefined> {
  const compressed = await compress(data, { level: constants.Z_BEST_SPEED });
  return compressed.byteLength < data.byteLength ? compressed : undefined;
}

/**
 * Returns the `fileBytes` bytes that were compressed. Uses no more memory than that, whatever
 * `data` is.
 * @throws CairnError INVALID_ARGUMENT when the number of bytes differs; CORRUPT when `data` is no
 * raw DEFLATE
 */
export function inflateChunk(data: Uint8Array, fileBytes: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    inflateRaw(data, { maxOutputLength: fileBytes, info: true }, (error, result) => {
      if (error !== null) return reject(inflateError(error, fileBytes));
      // With `info`, the result is an object; the types do not say so.
      const { buffer, engine } = result as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
      if (buffer.byteLength !== fileBytes) return reject(wrongSize(`${buffer.byteLength}`, fileBytes));
      if (engine.bytesWritten !== data.byteLength) {
        return reject(new CairnError("CORRUPT", "there are bytes behind the end of a compressed chunk"));
      }
      resolve(buffer);
    });
  });
}

function inflateError(error: NodeJS.ErrnoException, fileBytes: number): CairnError {
  if (error.code === "ERR_BUFFER_TOO_LARGE") return wrongSize("more", fileBytes);
  return new CairnError("CORRUPT", `a compressed chunk is damaged: ${error.message}`, { cause: error });
}

function wrongSize(found: string, fileBytes: number): CairnError {
  return new CairnError(
    "INVALID_ARGUMENT",
    `a compressed chunk holds ${found} bytes of the file, expected ${fileBytes}`,
  );
}
