import { basename } from "node:path";
import { CairnError } from "../../base/errors.js";
import {
  CHUNK_HEAD_BYTES,
  checkCrc,
  corrupt,
  decodePreamble,
  decodeTrailer,
  fileBytesOf,
  hex,
  PREAMBLE_BYTES,
  SMALLEST_FILE_BYTES,
  TRAILER_BYTES,
  type Trailer,
} from "../../encoding/snapshot_format.js";
import { decodeHeader, type SnapshotHeader } from "../../encoding/snapshot_header.js";
import type { Base } from "../../raft/membership/introduction.js";
import type { SnapshotMeta } from "../../raft/types.js";
import type { File, FileSystem } from "../../system/fs.js";
import { parseSnapshotFileName } from "./file_names.js";
import type { SnapshotInfo } from "./snapshot_info.js";

// Reads and checks the header and the trailer of a snapshot file.

/**
 * Reads a snapshot file's header and trailer, and checks them by their CRC32s and by the size that
 * they imply. Does not read the payload. Throws CORRUPT for a file that is damaged or misnamed,
 * WRONG_CLUSTER for another cluster's.
 */
export async function inspectSnapshot(fs: FileSystem, path: string, owner: SnapshotOwner): Promise<SnapshotInfo> {
  const file = await fs.open(path, "read");
  try {
    return await inspect(file, path, owner);
  } finally {
    await file.close();
  }
}

/**
 * Reads the header of a snapshot file; undefined when it is damaged, misnamed or another cluster's.
 */
export async function inspectHeader(
  fs: FileSystem,
  path: string,
  clusterId: string,
): Promise<SnapshotMeta | undefined> {
  let file: File | undefined;
  try {
    file = await fs.open(path, "read");
    const { header } = await headerOf(file, path);
    return header.clusterId === clusterId ? header.meta : undefined;
  } catch {
    // The caller knows already why the file must not be used.
    return undefined;
  } finally {
    await file?.close();
  }
}

/** Returns the name that errors give a snapshot file. */
export function snapshotLabel(path: string): string {
  return `snapshot file ${path}`;
}

async function inspect(file: File, path: string, owner: SnapshotOwner): Promise<SnapshotInfo> {
  const name = snapshotLabel(path);
  const fileBytes = await file.size();
  if (fileBytes < SMALLEST_FILE_BYTES) {
    throw corrupt(name, fileBytes, `the file ends here, expected ${SMALLEST_FILE_BYTES} bytes or more`);
  }
  const { header, headerBytes } = await headerOf(file, path);
  const trailerOffset = fileBytes - TRAILER_BYTES;
  const trailer = decodeTrailer(await readAt(file, name, trailerOffset, TRAILER_BYTES), name, trailerOffset);
  checkLayout(name, fileBytes, headerBytes, header, trailer);
  checkSnapshotCluster(name, header, owner, trailer.sha256);
  const { payloadBytes, sha256 } = trailer;
  return { ...header.meta, payloadBytes, fileBytes, sha256, path };
}

/** Reads the header, and checks that it belongs to this file. */
async function headerOf(
  file: File,
  path: string,
): Promise<{ readonly header: SnapshotHeader; readonly headerBytes: number }> {
  const name = snapshotLabel(path);
  const { headerBytes, headerCrc } = decodePreamble(await readAt(file, name, 0, PREAMBLE_BYTES), name);
  const bytes = await readAt(file, name, PREAMBLE_BYTES, headerBytes);
  checkCrc(bytes, headerCrc, name, PREAMBLE_BYTES, "the header");
  const header = decodeHeader(bytes, name);
  checkName(path, header);
  return { header, headerBytes };
}

/**
 * Cluster whose snapshots a store accepts: its own, and its base, which names no existing cluster.
 */
export interface SnapshotOwner {
  readonly clusterId: string;
  readonly base?: Base | undefined;
}

/**
 * Throws WRONG_CLUSTER unless the header names this cluster, or the file is the cluster's base;
 * CORRUPT for a file without members that is not the base.
 */
export function checkSnapshotCluster(
  name: string,
  header: SnapshotHeader,
  { clusterId, base }: SnapshotOwner,
  sha256: Uint8Array,
): void {
  const { index, term, membership } = header.meta;
  if (base !== undefined && base.index === index && base.term === term && base.sha256 === hex(sha256)) return;
  if (header.clusterId === clusterId) {
    if (membership.members.length > 0) return;
    throw corrupt(name, PREAMBLE_BYTES, "header: it names no members, and is not what this cluster began with");
  }
  throw new CairnError(
    "WRONG_CLUSTER",
    `${name} is of cluster ${header.clusterId}, expected ${clusterId}; use a snapshot of this cluster`,
  );
}

function checkLayout(name: string, fileBytes: number, headerBytes: number, header: SnapshotHeader, trailer: Trailer) {
  const chunks = Math.ceil(trailer.payloadBytes / header.chunkBytes);
  if (trailer.chunks !== chunks) {
    const offset = fileBytes - TRAILER_BYTES + CHUNK_HEAD_BYTES;
    throw corrupt(name, offset, `the trailer says ${trailer.chunks} chunks, expected ${chunks} for its payload size`);
  }
  const expected = fileBytesOf(headerBytes, trailer);
  if (fileBytes !== expected) {
    throw corrupt(name, fileBytes, `the file ends here, expected ${expected} bytes as header and trailer say`);
  }
}

function checkName(path: string, { meta }: SnapshotHeader): void {
  const named = parseSnapshotFileName(basename(path));
  if (named?.index === meta.index && named.term === meta.term) return;
  throw new CairnError(
    "CORRUPT",
    `${snapshotLabel(path)} holds the snapshot at index ${meta.index} of term ${meta.term}, which contradicts its name; ` +
      "find out who renamed it",
  );
}

async function readAt(file: File, name: string, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  const got = await file.read(buffer, offset);
  if (got < bytes) throw corrupt(name, offset + got, `the file ends here, expected ${bytes - got} bytes more`);
  return buffer;
}
