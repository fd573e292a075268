import type { SnapshotInfo } from "../../../../gen/cairn/v1/admin_pb.js";
import { CairnError } from "../../../base/errors.js";
import type { ClusterAdmin } from "../../../client/admin/cluster_admin.js";
import type { SnapshotMeasure } from "../../../encoding/snapshot_file.js";
import { hex, sameBytes } from "../../../encoding/snapshot_format.js";
import { SnapshotParser } from "../../../encoding/snapshot_parser.js";
import { noProgress, type ProgressDisplay } from "../../output/progress.js";
import { STANDARD_OUTPUT, toFile, toStandardOutput } from "../../output/snapshot_target.js";

/** Describes a snapshot as it is printed. */
export interface Snapshot {
  readonly index: number;
  readonly term: number;
  /** Size of the file. */
  readonly bytes: number;
  /** In hexadecimal; equal on all nodes for the same index. */
  readonly sha256: string;
}

export async function take(cluster: ClusterAdmin, id: string | undefined) {
  const { node, admin } = await cluster.member(id);
  const { taken, snapshot, logEntriesTrimmed } = await admin.takeSnapshot({});
  return { node, taken, trimmed: Number(logEntriesTrimmed), snapshot: snapshot && toSnapshot(snapshot) };
}

export async function list(cluster: ClusterAdmin, id: string | undefined) {
  const { node, admin } = await cluster.member(id);
  const { snapshots } = await admin.listSnapshots({});
  return { node, snapshots: snapshots.map(toSnapshot) };
}

/**
 * Saves the snapshot at `index`, or the newest one for 0. The file gets its name only when it is
 * whole, verified and durable; when the signal is set before that, no file remains. Bytes written
 * to standard output cannot be taken back: they are good only if this resolves.
 * @throws CairnError NOT_FOUND, CORRUPT, CANCELLED; FAILED_PRECONDITION when the file exists
 */
export async function save(
  cluster: ClusterAdmin,
  id: string | undefined,
  index: number,
  path: string,
  { progress = noProgress, signal }: { readonly progress?: ProgressDisplay; readonly signal?: AbortSignal } = {},
) {
  const { node, admin } = await cluster.member(id);
  const target = path === STANDARD_OUTPUT ? toStandardOutput() : await toFile(path);
  try {
    const parser = new SnapshotParser(`the snapshot that ${node} sends`);
    let info: SnapshotInfo | undefined;
    let doneBytes = 0;
    for await (const part of admin.downloadSnapshot({ index: BigInt(index) }, { signal })) {
      info ??= part.info;
      parser.push(part.data);
      await target.write(part.data);
      doneBytes += part.data.byteLength;
      progress.update(doneBytes, Number(info?.fileBytes ?? 0));
    }
    checkAnnounced(node, info, parser.finish());
    await target.finish();
    return { node, snapshot: toSnapshot(info!) };
  } catch (error) {
    await target.discard();
    throw error;
  } finally {
    progress.end();
  }
}

/** Checks that the file, which is sound in itself, is the one that the node announced. */
function checkAnnounced(node: string, info: SnapshotInfo | undefined, { sha256 }: SnapshotMeasure): void {
  if (info !== undefined && sameBytes(info.sha256, sha256)) return;
  const announced = info === undefined ? "nothing" : `SHA-256 ${hex(info.sha256)}`;
  throw new CairnError("CORRUPT", `${node} has announced ${announced} and sent a snapshot with SHA-256 ${hex(sha256)}`);
}

function toSnapshot({ index, term, fileBytes, sha256 }: SnapshotInfo): Snapshot {
  return {
    index: Number(index),
    term: Number(term),
    bytes: Number(fileBytes),
    sha256: hex(sha256),
  };
}
