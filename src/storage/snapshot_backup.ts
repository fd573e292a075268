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
import { nameOf } from "./snapshots/inspect.js";
import type { PayloadCheck, PayloadChecker } from "./snapshots/payload_check.js";
import type { SnapshotInfo } from "./snapshots/snapshot_info.js";
import { SnapshotStore } from "./snapshots/snapshot_store.js";
import { WriteAheadLog } from "./wal/wal.js";

// A snapshot file that lies anywhere, under any name: a backup.

/** Holds the findings about a snapshot file. */
export interface ExaminedSnapshot {
  /** Size of the file as it is. */
  readonly fileBytes: number;
  /** Undefined when not even that much of the file is good. */
  readonly header: SnapshotHeader | undefined;
  /** Undefined when the file is damaged, or its payload is not one of this program. */
  readonly measure: SnapshotMeasure | undefined;
  /** Describes the damage and its place; undefined when the file is good. */
  readonly damage: string | undefined;
}

/**
 * Reads a whole file, and verifies it with its payload.
 * @throws CairnError NOT_FOUND when it cannot be read
 */
export async function examineSnapshot(
  fs: FileSystem,
  path: string,
  checkPayload: PayloadChecker,
): Promise<ExaminedSnapshot> {
  let payload: PayloadCheck | undefined;
  const payloadOf = () => {
    payload ??= checkPayload(parser.header!.meta);
    return payload;
  };
  const parser = new SnapshotParser(nameOf(path), (chunk) => payloadOf().push(chunk));
  let fileBytes = 0;
  let damage: string | undefined;
  for await (const piece of piecesOf(fs, path)) {
    fileBytes += piece.byteLength;
    damage ??= damageBy(() => parser.push(piece));
  }
  let measure: SnapshotMeasure | undefined;
  damage ??= damageBy(() => {
    const whole = parser.finish();
    payloadOf().finish();
    measure = whole;
  });
  return { fileBytes, header: parser.header, measure, damage };
}

/** The header and measure of a file that is good. @throws CairnError NOT_FOUND, CORRUPT */
export async function verifySnapshotFile(
  fs: FileSystem,
  path: string,
  checkPayload: PayloadChecker,
): Promise<{ readonly header: SnapshotHeader; readonly measure: SnapshotMeasure }> {
  const { header, measure, damage } = await examineSnapshot(fs, path, checkPayload);
  if (header === undefined || measure === undefined) throw new CairnError("CORRUPT", damage!);
  return { header, measure };
}

/**
 * Makes the data directory of a founder of a new cluster that begins with the state of a snapshot
 * file (T2). The directory belongs to no cluster yet: its members found one when they are first
 * started, with this snapshot as its base. The snapshot's header is written anew, as a function of
 * the file and the founders, so that all founders have the same base. The payload is taken as it
 * is, clients' sessions included: a write that it holds is answered again rather than carried out
 * twice, and of what came after it nothing is remembered.
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
  /** A name for the base, which no cluster has. */
  readonly baseId: string;
  readonly checkPayload: PayloadChecker;
  /** The founders. */
  readonly members: Membership;
}): Promise<SnapshotInfo> {
  const { fs, file, path, nodeId, baseId, members } = options;
  const { index, term } = options.at;
  let restored: SnapshotInfo | undefined;
  const identity = drawnIdentity({ nodeId, cameBy: "cluster", members });
  await DataDirectory.make(fs, path, identity, async (directory) => {
    const log = { fs, directory: directory.log };
    // Nobody has voted in this cluster, nor been promised anything.
    await (await WriteAheadLog.create(log, { index, term }, { term, vote: undefined, commit: index })).close();
    const snapshots = await SnapshotStore.open({ fs, directory: directory.snapshots, clusterId: baseId });
    // T1: nobody is a member of the new cluster before its first entry says so.
    const meta = { index, term, membership: { index: 0, members: [] } };
    // Verified once more on the way: nothing says that the file has not changed since.
    restored = await snapshots.write(meta, payloadOf(fs, file, options.checkPayload(options.at)));
    return { base: { index, term, sha256: hex(restored.sha256) } };
  });
  return restored!;
}

/**
 * The chunks of the payload, each valid until the next one is asked for. The payload is good when
 * the iteration has ended.
 */
async function* payloadOf(fs: FileSystem, path: string, check: PayloadCheck): AsyncGenerator<Uint8Array, void, void> {
  const parser = new SnapshotParser(nameOf(path), (chunk) => check.push(chunk));
  for await (const piece of piecesOf(fs, path)) yield* parser.push(piece);
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
