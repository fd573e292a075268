import { setImmediate } from "node:timers/promises";
import { encodeFile, type SnapshotMeasure } from "./snapshot_file.js";
import { encodeHeader, type SnapshotHeader } from "./snapshot_header.js";

/**
 * Yields the bytes of a snapshot file: the header, one piece for each chunk, the trailer. Returns
 * the file's measure. The same header and payload give the same bytes, whatever the pieces the
 * payload comes in. Memory: one chunk.
 *
 * A piece is valid until the next one is asked for: copy what is to be kept. Throws
 * INVALID_ARGUMENT or LIMIT_EXCEEDED for a bad header before the payload is touched, and whatever
 * the payload throws.
 */
export async function* encodeSnapshot(
  header: SnapshotHeader,
  payload: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, SnapshotMeasure, void> {
  return yield* encodeFile({ bytes: encodeHeader(header), chunkBytes: header.chunkBytes }, payload);
}

/**
 * Encodes a snapshot to learn its size and digest, which an offer must name before the first byte
 * is sent.
 */
export async function measureSnapshot(
  header: SnapshotHeader,
  payload: AsyncIterable<Uint8Array>,
): Promise<SnapshotMeasure> {
  const encoder = encodeSnapshot(header, payload);
  for (;;) {
    const step = await encoder.next();
    if (step.done) return step.value;
    // A payload that is in memory never waits: let others run between two chunks.
    await setImmediate();
  }
}
