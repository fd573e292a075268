import { statSync } from "node:fs";
import { CairnError } from "../../../base/errors.js";
import { hex } from "../../../encoding/snapshot_format.js";
import { checkKnownPayload } from "../../../machine/known_payloads.js";
import type { Membership } from "../../../raft/types.js";
import { checkMembers } from "../../../storage/data_dir.js";
import {
  type ExaminationOptions,
  examineSnapshot,
  restoreDirectory,
  verifySnapshotFile,
} from "../../../storage/snapshot_backup.js";
import { nodeFileSystem } from "../../../system/fs.js";
import { derivedClusterId, memberList } from "../../options/cluster_ids.js";

/** Describes a snapshot file as it is printed; fields that damage makes unreadable are left out. */
export interface InspectedFile {
  readonly file: string;
  readonly verified: boolean;
  /** Position and kind of the damage. */
  readonly damage?: string;
  readonly bytes: number;
  readonly cluster?: string;
  readonly index?: number;
  readonly term?: number;
  /** Index of the entry that set the members. */
  readonly membersIndex?: number;
  readonly members?: Membership;
  readonly payloadBytes?: number;
  /**
   * SHA-256 of the file up to its trailer, in hexadecimal: equal on all nodes for the same index.
   */
  readonly sha256?: string;
}

/** Reads a whole snapshot file. @throws CairnError NOT_FOUND when it cannot be read; CANCELLED */
export async function inspectFile(file: string, options: ExaminationOptions = {}): Promise<InspectedFile> {
  const examined = await examineSnapshot(nodeFileSystem, file, checkKnownPayload, options);
  const { fileBytes, header, measure, damage } = examined;
  return {
    file,
    verified: damage === undefined,
    ...(damage !== undefined && { damage }),
    bytes: fileBytes,
    ...(header !== undefined && {
      cluster: header.clusterId,
      index: header.meta.index,
      term: header.meta.term,
      membersIndex: header.meta.membership.index,
      members: header.meta.membership.members,
    }),
    ...(measure !== undefined && { payloadBytes: measure.payloadBytes, sha256: hex(measure.sha256) }),
  };
}

export interface RestoredDirectory {
  readonly node: string;
  readonly data: string;
  readonly index: number;
  readonly term: number;
  /** SHA-256 of the base, in hexadecimal digits: the same on all founders. */
  readonly sha256: string;
}

/**
 * Makes a data directory from a snapshot file.
 * @throws CairnError NOT_FOUND, CORRUPT; INVALID_ARGUMENT when the node is not among the members;
 * DATA_DIRECTORY when the directory holds data
 */
export async function restoreFile(
  file: string,
  options: {
    readonly id: string;
    readonly data: string;
    readonly cluster: ReadonlyMap<string, string>;
    /** The file is read twice: once to verify it, once to copy it. */
    readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  },
): Promise<RestoredDirectory> {
  const { id, data, cluster, onProgress } = options;
  const members = checkMembers([...cluster].map(([id, address]) => ({ id, address, role: "voter" })));
  if (!cluster.has(id)) {
    throw new CairnError("INVALID_ARGUMENT", `--cluster names ${[...cluster.keys()].join(", ")}, but not ${id}`);
  }
  const bytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  const read = (before: number) => (done: number) => onProgress?.(before + done, 2 * Math.max(bytes, done));
  const verified = await verifySnapshotFile(nodeFileSystem, file, checkKnownPayload, { onProgress: read(0) });
  const { header, measure } = verified;
  // The same on every host that restores the same file for the same founders: they can only found a
  // cluster with one base.
  const baseId = derivedClusterId("base", [hex(measure.sha256), ...memberList(members)]);
  const where = {
    fs: nodeFileSystem,
    file,
    at: header.meta,
    checkPayload: checkKnownPayload,
    path: data,
    nodeId: id,
    baseId,
    members,
    onProgress: read(bytes),
  };
  const { index, term, sha256 } = await restoreDirectory(where);
  return { node: id, data, index, term, sha256: hex(sha256) };
}
