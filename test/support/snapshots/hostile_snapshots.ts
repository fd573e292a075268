import { create, toBinary } from "@bufbuild/protobuf";
import { MemberRole, SnapshotHeaderSchema } from "../../../gen/cairn/v1/storage_pb.js";
import { limits } from "../../../src/base/limits.js";
import { encodeFile } from "../../../src/encoding/snapshot_file.js";
import { encodePairsPayload, encodePayload } from "../../../src/machine/kv/payload.js";
import { FIRST_HEAD } from "../../../src/machine/kv/session_limits.js";
import type { LogPosition } from "../../../src/raft/types.js";
import type { SnapshotFile } from "../nodes/acting_leader.js";

// Snapshot files whose every checksum is right, and which no correct member writes.

/** What such a file holds. */
interface Contents {
  readonly index: number;
  readonly term: number;
  readonly members: readonly { readonly id: string; readonly address?: string; readonly role?: MemberRole }[];
  readonly membershipIndex: number;
  readonly payload: Uint8Array;
}

export interface HostileSnapshot extends SnapshotFile {
  /** What is wrong with it. */
  readonly what: string;
}

/** Puts a file together around a header that is written as it is told to. */
export async function fileOf(contents: Contents, clusterId: string): Promise<SnapshotFile> {
  const { index, term, members, membershipIndex, payload } = contents;
  const bytes = toBinary(
    SnapshotHeaderSchema,
    create(SnapshotHeaderSchema, {
      clusterId,
      index: BigInt(index),
      term: BigInt(term),
      membership: { members: members.map((member) => ({ role: MemberRole.VOTER, ...member })) },
      membershipIndex: BigInt(membershipIndex),
      chunkBytes: limits.snapshotChunkBytes,
    }),
  );
  const encoder = encodeFile({ bytes, chunkBytes: limits.snapshotChunkBytes }, inOnePiece(payload));
  const pieces: Buffer[] = [];
  for (;;) {
    const step = await encoder.next();
    if (step.done) return { index, term, file: Buffer.concat(pieces), sha256: step.value.sha256 };
    pieces.push(Buffer.from(step.value));
  }
}

/** One of each kind, at a position that a receiver would take a snapshot for. */
export function hostileSnapshots(at: LogPosition, clusterId: string): Promise<HostileSnapshot[]> {
  return Promise.all(hostileKinds.map(async (what) => ({ what, ...(await hostileSnapshot(what, at, clusterId)) })));
}

export function hostileSnapshot(what: HostileKind, at: LogPosition, clusterId: string): Promise<SnapshotFile> {
  const good = { ...at, members: [{ id: "n1" }], membershipIndex: 0, payload: payloadAt(at) };
  return fileOf({ ...good, ...wrongParts(at)[what] }, clusterId);
}

function wrongParts(at: LogPosition) {
  return {
    "a payload of another index than the header's": { payload: payloadAt({ ...at, index: at.index + 1 }) },
    "a payload of another term than the header's": { payload: payloadAt({ ...at, term: at.term + 1 }) },
    "a payload that is no state": { payload: Buffer.alloc(1_000, "no state at all") },
    "an empty payload": { payload: new Uint8Array() },
    "a payload without its end": { payload: payloadAt(at).subarray(0, -1) },
    "a payload with something behind its end": { payload: Buffer.concat([payloadAt(at), Buffer.alloc(1)]) },
    "a remembered answer that is none": { payload: withAnswer(at, Buffer.from("none")) },
    "no members": { members: [], membershipIndex: at.index },
    "no members, as what a cluster begins with": { members: [] },
    "no voter": { members: [{ id: "n1", role: MemberRole.LEARNER }] },
    "members out of order": { members: [{ id: "n2" }, { id: "n1" }] },
    "a member twice": { members: [{ id: "n1" }, { id: "n1" }] },
    "a member whose id is none": { members: [{ id: "../n1" }] },
    "an endless address": { members: [{ id: "n1", address: "a".repeat(limits.addressCharacters + 1) }] },
    "a membership from behind it": { membershipIndex: at.index + 1 },
    "an index above indexMax": { index: 2 ** 53 - 1, payload: payloadAt({ ...at, index: 2 ** 53 - 1 }) },
    "a term above termMax": { term: 2 ** 53 - 1, payload: payloadAt({ ...at, term: 2 ** 53 - 1 }) },
  } as const satisfies Readonly<Record<string, Partial<Contents>>>;
}

export type HostileKind = keyof ReturnType<typeof wrongParts>;

export const hostileKinds = Object.keys(wrongParts({ index: 1, term: 1 })) as HostileKind[];

function payloadAt(at: LogPosition): Buffer {
  return bytesOf(encodePairsPayload([{ key: Buffer.from("hostile"), value: Buffer.from("state") }], at));
}

function withAnswer(at: LogPosition, answer: Uint8Array): Buffer {
  const session = { clientId: "c", floor: 0, lastUsed: 1, answers: [{ sequence: 1, answer }] };
  return bytesOf(
    encodePayload(at, { leases: () => [], keys: () => [], sessionsHead: FIRST_HEAD, sessions: () => [session] }),
  );
}

function bytesOf(pieces: Iterable<Uint8Array>): Buffer {
  return Buffer.concat(Array.from(pieces, (piece) => Uint8Array.prototype.slice.call(piece)));
}

async function* inOnePiece(payload: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
  yield payload;
}
