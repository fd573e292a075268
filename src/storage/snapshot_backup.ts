import { CairnError, hasCode } from "../base/errors.js";
import { limits } from "../base/limits.js";
import type { SnapshotMeasure } from "../encoding/snapshot_file.js";
import { hex } from "../encoding/snapshot_format.js";
import type { SnapshotHeader } from "../encoding/snapshot_header.js";
import { SnapshotParser } from "../encoding/snapshot_parser.js";
import type { LogPosition, Membership } from "../raft/types.js";
import type { FileSystem } from "../system/fs.js";
import { DataDirectory } from "./data_dir.js";
import { drawnIdentity } from "./identity.js";
import { snapshotLabel } from "./snapshots/inspect.js";
import type { PayloadCheck, PayloadChecker } from "./snapshots/payload_check.js";
import type { SnapshotInfo } from "./snapshots/snapshot_info.js";
import { SnapshotStore } from "./snapshots/snapshot_store.js";
import { WriteAheadLog } from "./wal/wal.js";

// Verifies a backup, which is a snapshot file at any path and under any name, and restores from it.

/** Holds the findings about a snapshot file. */
export interface ExaminedSnapshot {
  /** Size of the file on disk. */
  readonly fileBytes: number;
  /** Undefined when the file is damaged before its header ends. */
  readonly header: SnapshotHeader | undefined;
  /** Undefined when the file is damaged, or its payload is not one of this program. */
  readonly measure: SnapshotMeasure | undefined;
  /** Describes the damage and its place; undefined when the file is good. */
  readonly damage: string | undefined;
}

export interface ExaminationOptions {
  /** Receives the number of bytes that were read. */
  readonly onProgress?: ((doneBytes: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads a whole file, and verifies it and its payload.
 * @throws CairnError NOT_FOUND when the file cannot be read; CANCELLED by the signal
 */
export async function examineSnapshot(
  fs: FileSystem,
  path: string,
  checkPayload: PayloadChecker,
  { onProgress, signal }: ExaminationOptions = {},
): Promise<ExaminedSnapshot> {
  let payload: PayloadCheck | undefined;
  const payloadOf = () => {
    payload ??= checkPayload(parser.header!.meta);
    return payload;
  };
  const parser = new SnapshotParser(snapshotLabel(path), (chunk) => payloadOf().push(chunk));
  let fileBytes = 0;
  let damage: string | undefined;
  for await (const piece of piecesOf(fs, path)) {
    fileBytes += piece.byteLength;
    damage ??= damageBy(() => parser.push(piece));
    onProgress?.(fileBytes);
    if (signal?.aborted) throw new CairnError("CANCELLED", `reading ${path} was interrupted`);
  }
  let measure: SnapshotMeasure | undefined;
  damage ??= damageBy(() => {
    const whole = parser.finish();
    payloadOf().finish();
    measure = whole;
  });
  return { fileBytes, header: parser.header, measure, damage };
}

/**
 * Returns the header and the measure of a good file.
 * @throws CairnError NOT_FOUND, CORRUPT
 */
export async function verifySnapshotFile(
  fs: FileSystem,
  path: string,
  checkPayload: PayloadChecker,
  options?: ExaminationOptions,
): Promise<{ readonly header: SnapshotHeader; readonly measure: SnapshotMeasure }> {
  const { header, measure, damage } = await examineSnapshot(fs, path, checkPayload, options);
  if (header === undefined || measure === undefined) throw new CairnError("CORRUPT", damage!);
  return { header, measure };
}

/**
 * Makes the data directory of a founder of a new cluster that begins with the state of a snapshot
 * file (T2). The directory belongs to no cluster yet: its members found one at their first start,
 * with this snapshot as its base. The snapshot's header is written anew, as a function of the file
 * and the founders, so that all founders have the same base. The payload is kept as it is, clients'
 * sessions included: a retry of a write in it gets the remembered answer, and nothing is remembered
 * of later writes.
 * @throws CairnError NOT_FOUND, CORRUPT; DATA_DIRECTORY when the directory has data
 */
export async function restoreDirectory(options: {
  readonly fs: FileSystem;
  /** The snapshot file. */
  readonly file: string;
  /** Position of the snapshot, as {@link verifySnapshotFile} returned it. */
  readonly at: LogPosition;
  readonly path: string;
  readonly nodeId: string;
  /** Name of the base in the place of a cluster id; no cluster has it. */
  readonly baseId: string;
  readonly checkPayload: PayloadChecker;
  /** The founders. */
  readonly members: Membership;
  readonly onProgress?: ExaminationOptions["onProgress"];
}): Promise<SnapshotInfo> {
  const { fs, file, path, nodeId, baseId, members } = options;
  const { index, term } = options.at;
  let restored: SnapshotInfo | undefined;
  const identity = drawnIdentity({ nodeId, cameBy: "cluster", members });
  await DataDirectory.make(fs, path, identity, async (directory) => {
    const log = { fs, directory: directory.log };
    // Nobody has voted in this cluster, or been promised anything.
    await (await WriteAheadLog.create(log, { index, term }, { term, vote: undefined, commit: index })).close();
    const snapshots = await SnapshotStore.open({ fs, directory: directory.snapshots, clusterId: baseId });
    // T1: nobody is a member of the new cluster before its first entry says so.
    const meta = { index, term, membership: { index: 0, members: [] } };
    // Verified again during the copy: the file may have changed since the first check.
    restored = await snapshots.write(meta, payloadOf(fs, file, options.checkPayload(options.at), options.onProgress));
    return { base: { index, term, sha256: hex(restored.sha256) } };
  });
  return restored!;
}

/**
 * Yields the chunks of the payload, each valid until the caller asks for the next. The payload is
 * good only when the iteration has ended.
 */
async function* payloadOf(
  fs: FileSystem,
  path: string,
  check: PayloadCheck,
  onProgress: ExaminationOptions["onProgress"],
): AsyncGenerator<Uint8Array, void, void> {
  const parser = new SnapshotParser(snapshotLabel(path), (chunk) => check.push(chunk));
  let readBytes = 0;
  for await (const piece of piecesOf(fs, path)) {
    yield* parser.push(piece);
    readBytes += piece.byteLength;
    onProgress?.(readBytes);
  }
  parser.finish();
  check.finish();
}

async function* piecesOf(fs: FileSystem, path: string): AsyncGenerator<Uint8Array, void, void> {
  const file = await openFile(fs, path);
  try {
    const buffer = Buffer.allocUnsafe(limits.snapshotWriteBytes);
    for (let at = 0; ; ) {
      const bytes = await file.read(buffer, at);
      if (bytes === 0) return;
      yield buffer.subarray(0, bytes);
      at += bytes;
    }
  } finally {
    await file.close();
  }
}

async function openFile(fs: FileSystem, path: string) {
  try {
    return await fs.open(path, "read");
  } catch (error) {
    throw new CairnError("NOT_FOUND", `${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

function damageBy(task: () => unknown): string | undefined {
  try {
    task();
    return undefined;
  } catch (error) {
    if (hasCode(error, "CORRUPT")) return error.text;
    throw error;
  }
}
