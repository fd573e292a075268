import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { SnapshotHeaderSchema } from "../../gen/cairn/v1/storage_pb.js";
import { assert } from "../base/assert.js";
import { CairnError } from "../base/errors.js";
import { idProblem, isId } from "../base/ids.js";
import { limits } from "../base/limits.js";
import { snapshotProblem } from "../raft/membership/membership_rules.js";
import type { SnapshotMeta } from "../raft/types.js";
import { membershipFromMessage, membershipToMessage } from "./membership.js";
import { corrupt, PREAMBLE_BYTES } from "./snapshot_format.js";

// Encodes and decodes the header of a snapshot file.

/**
 * The metadata at the start of a snapshot file: a function of the log up to the snapshot's index,
 * with nothing local.
 */
export interface SnapshotHeader {
  readonly clusterId: string;
  readonly meta: SnapshotMeta;
  /**
   * Size of each payload chunk but the last, in bytes; 1 to limits.snapshotChunkBytesMax. Cairn
   * writes limits.snapshotChunkBytes.
   */
  readonly chunkBytes: number;
}

/**
 * Encodes a header. @throws CairnError INVALID_ARGUMENT for a header that no reader would accept
 */
export function encodeHeader(header: SnapshotHeader): Uint8Array {
  const problem = problemOf(header);
  if (problem !== undefined) throw new CairnError("INVALID_ARGUMENT", `snapshot header: ${problem}`);
  const { meta } = header;
  const bytes = toBinary(
    SnapshotHeaderSchema,
    create(SnapshotHeaderSchema, {
      clusterId: header.clusterId,
      index: BigInt(meta.index),
      term: BigInt(meta.term),
      membership: membershipToMessage(meta.membership.members),
      membershipIndex: BigInt(meta.membership.index),
      chunkBytes: header.chunkBytes,
    }),
  );
  assert(bytes.byteLength <= limits.snapshotHeaderBytes, "a valid membership fits a header", {
    bytes: bytes.byteLength,
    members: meta.membership.members.length,
  });
  return bytes;
}

/**
 * Decodes a header whose CRC32 the caller has checked. @throws CairnError CORRUPT when the bytes
 * are not a header
 */
export function decodeHeader(bytes: Uint8Array, name: string): SnapshotHeader {
  const header = toHeader(bytes, name);
  const problem = problemOf(header);
  if (problem !== undefined) throw corrupt(name, PREAMBLE_BYTES, `header: ${problem}`);
  return header;
}

function toHeader(bytes: Uint8Array, name: string): SnapshotHeader {
  try {
    const message = fromBinary(SnapshotHeaderSchema, bytes);
    return {
      clusterId: message.clusterId,
      meta: {
        index: Number(message.index),
        term: Number(message.term),
        membership: {
          index: Number(message.membershipIndex),
          members: membershipFromMessage(message.membership),
        },
      },
      chunkBytes: message.chunkBytes,
    };
  } catch (error) {
    throw corrupt(name, PREAMBLE_BYTES, `the header is not a SnapshotHeader message: ${String(error)}`);
  }
}

/** Describes what is wrong with a header; undefined when nothing is. */
function problemOf({ clusterId, meta, chunkBytes }: SnapshotHeader): string | undefined {
  if (!isId(clusterId)) return idProblem("cluster id", clusterId);
  const { snapshotChunkBytesMax } = limits;
  if (!Number.isSafeInteger(chunkBytes) || chunkBytes < 1 || chunkBytes > snapshotChunkBytesMax) {
    return `chunk size ${chunkBytes}, expected 1 to snapshotChunkBytesMax (${snapshotChunkBytesMax})`;
  }
  return snapshotProblem(meta);
}
