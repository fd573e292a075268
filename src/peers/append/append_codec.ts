import { nameOf } from "../../base/ids.js";
import { encodedEntryBytes, encodeEntry, fieldBytes, putField } from "../../encoding/entry.js";
import type { Entry } from "../../raft/types.js";

// Encodes the protobuf message cairn.v1.AppendEntriesRequest by hand, so that nothing is allocated
// for each entry. The bytes are those that protobuf-es writes.

const HEADER = 0x0a;
const TERM = 0x10;
const LEADER_ID = 0x1a;
const PREV_LOG_INDEX = 0x20;
const PREV_LOG_TERM = 0x28;
const ENTRIES = 0x32;
const LEADER_COMMIT = 0x38;
const ROUND = 0x40;
const ACKNOWLEDGED_INDEX = 0x48;
const CONDITIONAL = 0x50;
const AWAIT_APPLIED = 0x58;
const MEMBERSHIP_INDEX = 0x60;

/** Fields of an AppendEntries request, without its header. */
export interface AppendFields {
  /** Member key of the leader. */
  readonly from: string;
  readonly term: number;
  readonly prev: { readonly index: number; readonly term: number };
  readonly entries: readonly Entry[];
  readonly leaderCommit: number;
  readonly round: number;
  readonly acknowledged?: number | undefined;
  readonly isConditional?: boolean | undefined;
  readonly awaitsApplied?: boolean | undefined;
  readonly membershipIndex?: number | undefined;
}

/** Encodes a request. `header` is an encoded PeerHeader, for the first message of a stream. */
export function encodeAppend(request: AppendFields, header?: Uint8Array): Buffer {
  const { term, prev, entries, leaderCommit, round, acknowledged = 0, membershipIndex = 0 } = request;
  const from = Buffer.from(nameOf(request.from), "utf8");
  const conditional = request.isConditional === true ? 1 : 0;
  const awaitApplied = request.awaitsApplied === true ? 1 : 0;
  const positions = [term, prev.index, prev.term, leaderCommit, round, acknowledged, membershipIndex];
  const numbers = [...positions, conditional, awaitApplied];
  let size = numbers.reduce((sum, number) => sum + fieldBytes(number), 0) + lengthDelimitedBytes(from.byteLength);
  if (header !== undefined) size += lengthDelimitedBytes(header.byteLength);
  const entryBytes = entries.map(encodedEntryBytes);
  for (const bytes of entryBytes) size += lengthDelimitedBytes(bytes);

  const buffer = Buffer.allocUnsafe(size);
  let at = 0;
  if (header !== undefined) at = putBytes(HEADER, header, buffer, at);
  at = putField(TERM, term, buffer, at);
  at = putBytes(LEADER_ID, from, buffer, at);
  at = putField(PREV_LOG_INDEX, prev.index, buffer, at);
  at = putField(PREV_LOG_TERM, prev.term, buffer, at);
  for (const [number, entry] of entries.entries()) {
    at = encodeEntry(entry, buffer, putField(ENTRIES, entryBytes[number]!, buffer, at));
  }
  at = putField(LEADER_COMMIT, leaderCommit, buffer, at);
  at = putField(ROUND, round, buffer, at);
  at = putField(ACKNOWLEDGED_INDEX, acknowledged, buffer, at);
  at = putField(CONDITIONAL, conditional, buffer, at);
  at = putField(AWAIT_APPLIED, awaitApplied, buffer, at);
  at = putField(MEMBERSHIP_INDEX, membershipIndex, buffer, at);
  return buffer.subarray(0, at);
}

/** Returns the bytes of a field with a one-byte tag that holds this many bytes. */
function lengthDelimitedBytes(bytes: number): number {
  return fieldBytes(bytes) + bytes;
}

function putBytes(tag: number, bytes: Uint8Array, buffer: Uint8Array, at: number): number {
  at = putField(tag, bytes.byteLength, buffer, at);
  buffer.set(bytes, at);
  return at + bytes.byteLength;
}
