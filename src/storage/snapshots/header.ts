import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { SnapshotHeaderSchema } from "../../../gen/cairn/v1/storage_pb.js";
import { isId } from "../../core/ids.js";
import { limits } from "../../core/limits.js";
import type { Member, SnapshotMeta } from "../../core/types.js";
import { CairnError } from "../../errors.js";
import { membershipFromMessage, membershipToMessage } from "../membership_message.js";
import { corrupt, PREAMBLE_BYTES } from "./format.js";

/** What the first part of a snapshot file says: a function of the log up to the snapshot's index, with nothing local. */
export interface SnapshotHeader {
  readonly clusterId: string;
  readonly meta: SnapshotMeta;
  /** Bytes of each payload chunk but the last; 1 to limits.snapshotChunkBytesMax. Cairn writes limits.snapshotChunkBytes. */
  readonly chunkBytes: number;
}

/** Throws INVALID_ARGUMENT for a header that no reader would accept, LIMIT_EXCEEDED for one that is too long. */
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
  if (bytes.byteLength > limits.snapshotHeaderBytes) {
    throw new CairnError(
      "LIMIT_EXCEEDED",
      `snapshot header of ${bytes.byteLength} bytes: snapshotHeaderBytes allows ${limits.snapshotHeaderBytes}; ` +
        "use fewer members or shorter addresses",
    );
  }
  return bytes;
}

/** Throws CORRUPT for bytes that are no header. Their CRC32 must have been checked before. */
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
    throw corrupt(name, PREAMBLE_BYTES, `the header is no SnapshotHeader message: ${String(error)}`);
  }
}

/** What is wrong with a header, if anything. */
function problemOf({ clusterId, meta, chunkBytes }: SnapshotHeader): string | undefined {
  const { index, term, membership } = meta;
  if (!isId(clusterId)) return idProblem("cluster id", clusterId);
  if (!isCount(index, 1)) return `index ${index}, expected 1 to 2^53 - 1`;
  if (!isCount(term, 1)) return `term ${term}, expected 1 to 2^53 - 1`;
  if (!isCount(membership.index, 0) || membership.index > index) {
    return `membership index ${membership.index}, expected 0 to the snapshot's index ${index}`;
  }
  if (!isCount(chunkBytes, 1) || chunkBytes > limits.snapshotChunkBytesMax) {
    return `chunk size ${chunkBytes}, expected 1 to snapshotChunkBytesMax (${limits.snapshotChunkBytesMax})`;
  }
  return membersProblem(membership.members);
}

function membersProblem(members: readonly Member[]): string | undefined {
  let previous = "";
  for (const { id } of members) {
    if (!isId(id)) return idProblem("member id", id);
    // Order is part of the format: equal memberships have equal bytes.
    if (id <= previous) return `member ${id} comes after ${previous}, expected ascending ids, each once`;
    previous = id;
  }
  return undefined;
}

function idProblem(what: string, id: string): string {
  return `${what} ${JSON.stringify(id)}, expected 1 to idCharacters (${limits.idCharacters}) of A-Z a-z 0-9 . _ -`;
}

function isCount(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least;
}
