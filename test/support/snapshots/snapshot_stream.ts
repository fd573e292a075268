import { crc32 } from "node:zlib";
import { limits } from "../../../src/base/limits.js";
import { encodeSnapshot, measureSnapshot } from "../../../src/encoding/snapshot_encoder.js";
import { encodePairsPayload } from "../../../src/machine/kv/payload.js";

/** A JSON object. */
type Json = Readonly<Record<string, unknown>>;

/** A key and its value. */
export interface Pair {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** A snapshot file in memory, and what an offer says of it. */
export interface SnapshotFile {
  readonly index: number;
  readonly term: number;
  readonly bytes: Buffer;
  readonly sha256: Uint8Array;
}

/** `count` pairs in ascending order of key, with values of `valueBytes`. */
export function statePairs(count: number, valueBytes: number): Pair[] {
  return Array.from({ length: count }, (_, at) => ({
    key: Buffer.from(`state/${String(at).padStart(9, "0")}`),
    value: Buffer.alloc(valueBytes, `value ${at} `),
  }));
}

/** The snapshot of a cluster with the one member n1. */
export async function makeSnapshotFile(of: {
  readonly clusterId: string;
  readonly index: number;
  readonly term: number;
  readonly pairs: readonly Pair[];
}): Promise<SnapshotFile> {
  const { clusterId, index, term, pairs } = of;
  const membership = { index: 0, members: [{ id: "n1", address: "", role: "voter" }] } as const;
  const header = { clusterId, meta: { index, term, membership }, chunkBytes: limits.snapshotChunkBytes };
  const payload = async function* () {
    yield* encodePairsPayload(pairs, { index, term });
  };
  const { fileBytes, sha256 } = await measureSnapshot(header, payload());
  const pieces: Buffer[] = [];
  for await (const piece of encodeSnapshot(header, payload())) pieces.push(Buffer.from(piece));
  const bytes = Buffer.concat(pieces);
  if (bytes.byteLength !== fileBytes) throw new Error(`measured ${fileBytes} bytes, encoded ${bytes.byteLength}`);
  return { index, term, bytes, sha256 };
}

/** The messages of an InstallSnapshot stream, in JSON. */
export function offerAndChunks(
  { index, term: snapshotTerm, bytes, sha256 }: SnapshotFile,
  from: { readonly header: Json; readonly term: number; readonly leaderId: string; readonly chunkBytes: number },
): Json[] {
  const { header, term, leaderId, chunkBytes } = from;
  const digest = Buffer.from(sha256).toString("base64");
  const messages: Json[] = [
    { offer: { header, term, leaderId, index, snapshotTerm, fileBytes: bytes.byteLength, sha256: digest } },
  ];
  for (let offset = 0; offset < bytes.byteLength; offset += chunkBytes) {
    const data = bytes.subarray(offset, offset + chunkBytes);
    messages.push({ chunk: { term, offset, crc32: crc32(data), data: data.toString("base64") } });
  }
  return messages;
}
