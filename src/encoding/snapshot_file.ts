import { createHash, type Hash } from "node:crypto";
import { CHUNK_HEAD_BYTES, encodeOpening, encodeTrailer, TRAILER_BYTES, writeChunkHead } from "./snapshot_format.js";

// Writes a snapshot file around an encoded header. A worker thread can use this module without
// loading the code that encodes messages.

/** The encoded header of a snapshot file. */
export interface EncodedHeader {
  readonly bytes: Uint8Array;
  /** Chunk size that the header names. */
  readonly chunkBytes: number;
}

/** The sizes and the digest of a snapshot file, known once all of it is encoded. */
export interface SnapshotMeasure {
  readonly fileBytes: number;
  readonly payloadBytes: number;
  /** SHA-256 of the file up to its trailer, as in the trailer. */
  readonly sha256: Uint8Array;
}

/** Yields the bytes of a snapshot file and returns its measure; see encodeSnapshot. */
export async function* encodeFile(
  header: EncodedHeader,
  payload: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, SnapshotMeasure, void> {
  const hash = createHash("sha256");
  const opening = encodeOpening(header.bytes);
  hash.update(opening);
  yield opening;

  const chunk = new ChunkBuffer(header.chunkBytes);
  let chunks = 0;
  let payloadBytes = 0;
  for await (const piece of payload) {
    payloadBytes += piece.byteLength;
    for (let rest = piece; rest.byteLength > 0; ) {
      rest = chunk.fill(rest);
      if (!chunk.full) continue;
      chunks += 1;
      yield chunk.seal(hash);
    }
  }
  if (!chunk.empty) {
    chunks += 1;
    yield chunk.seal(hash);
  }

  const sha256 = Uint8Array.from(hash.digest());
  yield encodeTrailer({ chunks, payloadBytes, sha256 });
  const fileBytes = opening.byteLength + chunks * CHUNK_HEAD_BYTES + payloadBytes + TRAILER_BYTES;
  return { fileBytes, payloadBytes, sha256 };
}

/** Collects one chunk, with room for its head in front. */
class ChunkBuffer {
  readonly #bytes: Buffer;
  #filled = CHUNK_HEAD_BYTES;

  constructor(chunkBytes: number) {
    this.#bytes = Buffer.allocUnsafe(CHUNK_HEAD_BYTES + chunkBytes);
  }

  get empty(): boolean {
    return this.#filled === CHUNK_HEAD_BYTES;
  }

  get full(): boolean {
    return this.#filled === this.#bytes.byteLength;
  }

  /** Takes as many bytes as fit; returns the rest. */
  fill(piece: Uint8Array): Uint8Array {
    const taken = Math.min(piece.byteLength, this.#bytes.byteLength - this.#filled);
    this.#bytes.set(piece.subarray(0, taken), this.#filled);
    this.#filled += taken;
    return piece.subarray(taken);
  }

  /** Returns the chunk as it is in the file, and starts the next one. */
  seal(hash: Hash): Uint8Array {
    const sealed = this.#bytes.subarray(0, this.#filled);
    writeChunkHead(sealed, sealed.subarray(CHUNK_HEAD_BYTES));
    hash.update(sealed);
    this.#filled = CHUNK_HEAD_BYTES;
    return sealed;
  }
}
