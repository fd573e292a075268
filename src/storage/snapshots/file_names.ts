import { hex } from "../../encoding/snapshot_format.js";
import type { LogPosition } from "../../raft/types.js";

// Names of the files in a snapshot directory.

/** Digits of 2^53 - 1, so that names sort by their numbers. */
const DIGITS = 16;
const SNAPSHOT_NAME = /^(\d{16})-(\d{16})\.snap$/;
const RECEIVED_PART_NAME = /^(\d{16})-(\d{16})-[0-9a-f]{8}\.part$/;

export const SNAPSHOT_EXTENSION = ".snap";
export const PART_EXTENSION = ".part";

export function snapshotFileName(position: LogPosition): string {
  return `${stem(position)}${SNAPSHOT_EXTENSION}`;
}

/** Returns the name of a file that is being written; `sha256` when it comes from another node. */
export function partFileName(position: LogPosition, sha256?: Uint8Array): string {
  const digest = sha256 === undefined ? "" : `-${hex(sha256.subarray(0, 4))}`;
  return `${stem(position)}${digest}${PART_EXTENSION}`;
}

/** Returns the index and term in a snapshot file's name; undefined for any other name. */
export function parseSnapshotFileName(name: string): LogPosition | undefined {
  return positionIn(SNAPSHOT_NAME.exec(name));
}

/** Returns the same for a part file that comes from another node. */
export function parseReceivedPartName(name: string): LogPosition | undefined {
  return positionIn(RECEIVED_PART_NAME.exec(name));
}

function positionIn(match: RegExpExecArray | null): LogPosition | undefined {
  return match === null ? undefined : { index: Number(match[1]), term: Number(match[2]) };
}

function stem({ index, term }: LogPosition): string {
  return `${digits(index)}-${digits(term)}`;
}

function digits(value: number): string {
  return String(value).padStart(DIGITS, "0");
}
