import type { Membership } from "../core/types.js";
import { CairnError } from "../errors.js";
import { checkMembers } from "../storage/data_dir.js";
import { nodeFileSystem } from "../storage/fs.js";
import { examineSnapshot, restoreDirectory, verifySnapshotFile } from "../storage/snapshot_backup.js";
import { hex } from "../storage/snapshots/format.js";
import { derivedClusterId, memberList } from "./cluster_ids.js";

/** A snapshot file as it is printed; without what damage keeps from being known. */
export interface InspectedFile {
  readonly file: string;
  readonly verified: boolean;
  /** Where it is damaged, and how. */
  readonly damage?: string;
  readonly bytes: number;
  readonly cluster?: string;
  readonly index?: number;
  readonly term?: number;
  /** Index of the entry that set the members. */
  readonly membersIndex?: number;
  readonly members?: Membership;
  readonly payloadBytes?: number;
  /** Of the file up to its trailer, in hexadecimal: equal on all nodes for the same index. */
  readonly sha256?: string;
}

/** Reads a whole snapshot file. @throws CairnError NOT_FOUND when it cannot be read */
export async function inspectFile(file: string): Promise<InspectedFile> {
  const { fileBytes, header, measure, damage } = await examineSnapshot(nodeFileSystem, file);
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
  readonly cluster: string;
  readonly data: string;
  readonly index: number;
  readonly term: number;
}

/**
 * Makes a data directory from a snapshot file.
 * @throws CairnError NOT_FOUND, CORRUPT; INVALID_ARGUMENT when the node is not among the members; DATA_DIRECTORY when there is data
 */
export async function restoreFile(
  file: string,
  options: {
    readonly id: string;
    readonly data: string;
    readonly cluster: ReadonlyMap<string, string>;
    readonly clusterId: string | undefined;
  },
): Promise<RestoredDirectory> {
  const { id, data, cluster } = options;
  const members = checkMembers([...cluster].map(([id, address]) => ({ id, address, role: "voter" })));
  if (!cluster.has(id)) {
    throw new CairnError("INVALID_ARGUMENT", `--cluster names ${[...cluster.keys()].join(", ")}, but not ${id}`);
  }
  const { header, measure } = await verifySnapshotFile(nodeFileSystem, file);
  // The same on every host on which the same file is restored for the same members: so the nodes find each other.
  const derived = derivedClusterId("restored", [hex(measure.sha256), ...memberList(members)]);
  const clusterId = options.clusterId ?? derived;
  if (clusterId === header.clusterId) {
    const text = `the snapshot is of cluster ${clusterId}: what is restored must have another id, or nodes that are left of that cluster`;
    throw new CairnError("INVALID_ARGUMENT", `${text} would be taken for its members. Give another --cluster-id.`);
  }
  const where = { fs: nodeFileSystem, file, at: header.meta, path: data, nodeId: id, clusterId, members };
  const { index, term } = await restoreDirectory(where);
  return { node: id, cluster: clusterId, data, index, term };
}
