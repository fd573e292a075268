import type { AdminService, TakeSnapshotRequest } from "../../../gen/cairn/v1/admin_pb.js";
import { isAddress } from "../../base/addresses.js";
import { CairnError } from "../../base/errors.js";
import { limits } from "../../base/limits.js";
import { membershipToMessage } from "../../encoding/membership.js";
import type { SnapshotRequest } from "../../node/snapshots/compaction.js";
import type { MembershipChange } from "../../raft/membership/membership_change.js";
import { toCount, toIndex } from "../../rpc/message_counters.js";
import type { NodeTls } from "../../rpc/security/node_tls.js";
import type { ServiceImplementation } from "../../rpc/server.js";
import type { SnapshotInfo } from "../../storage/snapshots/snapshot_info.js";
import { snapshotInfoToMessage } from "../convert.js";
import type { Introducer } from "../introducer.js";
import { Places } from "../places.js";
import type { ServedNode } from "../served_node.js";
import { logInfoOf, statusToMessage } from "./admin_status.js";
import { cancelTransfer, transfersOf } from "./admin_transfers.js";
import type { StateComparison } from "./verify_state.js";

/** Implements the operators' service of a node. */
export function adminService(
  node: ServedNode,
  comparison: StateComparison,
  introducer?: Introducer,
  security?: NodeTls,
): ServiceImplementation<typeof AdminService> {
  const change = async (change: MembershipChange, signal: AbortSignal) => {
    const { members } = await node.changeMembership(change, signal);
    return { membership: membershipToMessage(members) };
  };
  const downloads = new Places("downloads", "downloads of snapshots");
  return {
    async getStatus() {
      return statusToMessage(node, introducer?.warnings, security);
    },

    async getLogInfo({ minAppliedIndex }, { signal }) {
      await node.waitApplied(toIndex(minAppliedIndex, "min_applied_index"), signal);
      return logInfoOf(node);
    },

    async takeSnapshot(request) {
      const outcome = await node.takeSnapshot(toSnapshotRequest(request));
      return {
        taken: outcome.taken,
        logEntriesTrimmed: BigInt(outcome.logEntriesTrimmed),
        ...(outcome.snapshot !== undefined && { snapshot: snapshotInfoToMessage(outcome.snapshot) }),
      };
    },

    async listSnapshots() {
      return { snapshots: node.snapshots.list().map(snapshotInfoToMessage) };
    },

    downloadSnapshot: ({ index }) => downloads.serve(() => download(node, index)),

    async compact({ index }) {
      return { firstIndex: BigInt(await node.compact(toIndex(index, "index"))) };
    },

    async listTransfers() {
      return { transfers: transfersOf(node) };
    },

    async cancelTransfer({ id }) {
      await cancelTransfer(node, id);
      return {};
    },

    async addLearner({ nodeId, address }, { signal }) {
      if (!isAddress(address)) {
        throw new CairnError("INVALID_ARGUMENT", `address ${JSON.stringify(address)} must be host:port`);
      }
      return change({ type: "add_learner", id: nodeId, address }, signal);
    },

    async promoteLearner({ nodeId }, { signal }) {
      return change({ type: "promote", id: nodeId }, signal);
    },

    async removeMember({ nodeId }, { signal }) {
      return change({ type: "remove", id: nodeId }, signal);
    },

    async transferLeadership({ nodeId }, { signal }) {
      return { leaderId: await node.transferLeadership(nodeId === "" ? undefined : nodeId, signal) };
    },

    async verifyState(_request, { signal }) {
      return comparison.run(signal);
    },

    async campaign(_request, { signal }) {
      return { term: BigInt(await node.campaign(signal)) };
    },
  };
}

async function* download(node: ServedNode, index: bigint) {
  const info = findSnapshot(node, toIndex(index, "index"));
  // A slow reader must not lose the file to retention between the lookup and the first read.
  const unpin = node.snapshots.pin(info);
  try {
    yield { info: snapshotInfoToMessage(info) };
    for await (const data of node.snapshots.readGoodFile(info, limits.snapshotChunkBytes)) yield { data };
  } finally {
    unpin();
  }
}

function toSnapshotRequest({ trigger, keepLogBytes }: TakeSnapshotRequest): SnapshotRequest {
  return {
    thresholdEntries: trigger.case === "thresholdEntries" ? toCount(trigger.value, "threshold_entries") : undefined,
    index: trigger.case === "index" ? toIndex(trigger.value, "index") : undefined,
    keepLogBytes: keepLogBytes === undefined ? undefined : toCount(keepLogBytes, "keep_log_bytes"),
  };
}

function findSnapshot(node: ServedNode, index: number): SnapshotInfo {
  const all = node.snapshots.list();
  const found = index === 0 ? all[0] : all.find((info) => info.index === index);
  if (found !== undefined) return found;
  const there = all.length === 0 ? "there is none" : `there are ${all.map((info) => info.index).join(", ")}`;
  throw new CairnError(
    "NOT_FOUND",
    index === 0 ? "there is no snapshot" : `there is no snapshot at index ${index}: ${there}`,
  );
}
