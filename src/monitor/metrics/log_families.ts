import { nameOf } from "../../base/ids.js";
import { type Family, MS, one, seconds } from "./family.js";

/** Metrics of a node's log, its snapshots and their transfers. */
export const logFamilies: readonly Family[] = [
  one("gauge", "cairn_log_bytes", "Bytes on disk of the log.", ({ node }) => node.logStats.diskBytes),
  one("gauge", "cairn_log_segments", "Files of the log.", ({ node }) => node.logStats.segments),
  one(
    "gauge",
    "cairn_log_first_index",
    "First entry that the log holds.",
    ({ node }) => node.raft.log.boundary.index + 1,
  ),
  one(
    "gauge",
    "cairn_log_bytes_since_snapshot",
    "Bytes of entries applied since the newest snapshot.",
    ({ node }) => node.retention.bytesSinceSnapshot,
  ),
  one(
    "gauge",
    "cairn_log_pinned_bytes",
    "Bytes of entries retained for followers that are catching up by snapshot.",
    ({ node }) => node.retention.pinnedBytes,
  ),
  one(
    "gauge",
    "cairn_log_oldest_entry_age_seconds",
    "Age of the log's oldest entry; for entries from before the start, at least the time since their file last changed.",
    ({ node: { measures, raft } }) => {
      const { boundary, last } = raft.log;
      const ms = measures.logAge.ofOldest(boundary.index + 1, last.index);
      return ms === undefined ? undefined : ms * MS;
    },
  ),
  seconds("cairn_log_sync_duration_seconds", "Duration of a synced write of the log.", ({ node }) =>
    node.measures.logSyncs.view(),
  ),
  {
    type: "histogram",
    name: "cairn_log_batch_entries",
    help: "Entries in a write of the log.",
    collect: ({ node }) => [{ view: node.measures.batches.view(), unit: 1 }],
  },
  one("gauge", "cairn_disk_full", "1 when the node refuses writes because the disk is full.", ({ node }) =>
    node.isDiskFull ? 1 : 0,
  ),
  one(
    "gauge",
    "cairn_snapshot_index",
    "Index of the newest snapshot; 0 without one.",
    ({ node }) => node.raft.snapshot?.index ?? 0,
  ),
  one(
    "gauge",
    "cairn_snapshot_bytes",
    "Bytes of the newest snapshot's file.",
    ({ node }) => node.snapshots.newest()?.fileBytes ?? 0,
  ),
  one(
    "gauge",
    "cairn_snapshot_last_finished_timestamp_seconds",
    "Time at which the newest snapshot since the start was done.",
    ({ node }) => {
      const { last } = node.snapshotting;
      return last === undefined ? undefined : last.finishedUnixMs * MS;
    },
  ),
  {
    type: "counter",
    name: "cairn_snapshots_total",
    help: "Snapshots taken or installed since the node started, by reason.",
    collect: ({ node }) =>
      [...node.measures.snapshots.entries()].map(([reason, value]) => ({ labels: { reason }, value })),
  },
  seconds("cairn_snapshot_duration_seconds", "Time that a snapshot took, taken or installed.", ({ node }) =>
    node.measures.snapshotTimes.view(),
  ),
  one(
    "counter",
    "cairn_snapshot_written_bytes_total",
    "Bytes of the snapshots taken or installed.",
    ({ node }) => node.measures.snapshotBytes,
  ),
  {
    type: "gauge",
    name: "cairn_transfer_done_bytes",
    help: "Bytes that the receiver of a snapshot has.",
    collect: ({ node }) => transfers(node).map(({ labels, doneBytes: value }) => ({ labels, value })),
  },
  {
    type: "gauge",
    name: "cairn_transfer_total_bytes",
    help: "Bytes of a snapshot that is being sent or received.",
    collect: ({ node }) => transfers(node).map(({ labels, totalBytes: value }) => ({ labels, value })),
  },
  {
    type: "gauge",
    name: "cairn_transfer_margin_bytes",
    help: "Log kept for a follower, less the log written until it has its snapshot; below 0, it cannot catch up.",
    collect: ({ node }) =>
      [...node.retention.margins].map(([key, value]) => ({ labels: { peer: nameOf(key) }, value })),
  },
  {
    type: "counter",
    name: "cairn_transfers_ended_total",
    help: "Transfers to followers that have ended, by outcome.",
    collect: ({ node }) =>
      [...node.measures.transfers.entries()].map(([outcome, value]) => ({ labels: { outcome }, value })),
  },
];

function transfers({
  transfers: outgoing,
  receiver,
}: Pick<Parameters<Family["collect"]>[0]["node"], "transfers" | "receiver">) {
  const sent = outgoing.map((each) => ({ ...each, labels: { peer: nameOf(each.to), direction: "out" } }));
  const { transfer } = receiver;
  return transfer === undefined
    ? sent
    : [...sent, { ...transfer, labels: { peer: nameOf(transfer.from), direction: "in" } }];
}
