import { setImmediate } from "node:timers/promises";
import { encodeFile, type SnapshotMeasure } from "./snapshot_file.js";
import { encodeHeader, type SnapshotHeader } from "./snapshot_header.js";

/**
 * Encodes a snapshot: yields the bytes of its file (the header, one piece for each chunk, the
 * trailer) and returns the file's measure. The same header and payload give the same bytes, in
 * whatever pieces the payload arrives. Memory: one chunk.
 *
 * A piece stays valid until the caller asks for the next one, so the caller copies the bytes that
 * it keeps.
 * @throws CairnError INVALID_ARGUMENT or LIMIT_EXCEEDED for an invalid header, before the payload
 * is read; and any error of the payload
 */
export async function* encodeSnapshot(
  header: SnapshotHeader,
  payload: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, SnapshotMeasure, void> {
  return yield* encodeFile({ bytes: encodeHeader(header), chunkBytes: header.chunkBytes }, payload);
}

/**
 * Measures a snapshot by encoding it: an offer must name its size and digest before the first byte
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
    // A payload in memory never waits: let other work run between two chunks.
    await setImmediate();
  }
}
