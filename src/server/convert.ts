import type { MessageInitShape } from "@bufbuild/protobuf";
import type { SnapshotInfoSchema } from "../../gen/cairn/v1/admin_pb.js";
import type { SnapshotInfo } from "../storage/snapshots/snapshot_info.js";

/** Translates the description of a snapshot to its protobuf message. */
export function snapshotInfoToMessage(info: SnapshotInfo): MessageInitShape<typeof SnapshotInfoSchema> {
  return {
    index: BigInt(info.index),
    term: BigInt(info.term),
    payloadBytes: BigInt(info.payloadBytes),
    fileBytes: BigInt(info.fileBytes),
    sha256: info.sha256,
  };
}
