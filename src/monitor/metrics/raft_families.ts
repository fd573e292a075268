import { nameOf } from "../../base/ids.js";
import { stages } from "../../node/measures/stage_probe.js";
import type { Role } from "../../raft/state.js";
import { type Family, MS, one, seconds } from "./family.js";

const ROLES: readonly Role[] = ["follower", "pre-candidate", "candidate", "leader"];

const PROGRESS = ["probe", "replicate", "snapshot", "lost"] as const;

/** Metrics of a node's part in Raft: role, log positions, the other members, writes and reads. */
export const raftFamilies: readonly Family[] = [
  {
    type: "gauge",
    name: "cairn_raft_role",
    help: "1 for the role that the node has, 0 for the others.",
    collect: ({ node }) => ROLES.map((role) => ({ labels: { role }, value: node.raft.role === role ? 1 : 0 })),
  },
  one("gauge", "cairn_raft_term", "Term of the node.", ({ node }) => node.raft.term),
  one("gauge", "cairn_raft_has_leader", "1 when the node knows a leader.", ({ node }) =>
    node.raft.leader === undefined ? 0 : 1,
  ),
  one(
    "counter",
    "cairn_raft_leader_changes_total",
    "Times at which the node came to know of another leader, or of none.",
    ({ node }) => node.measures.leaderChanges,
  ),
  one(
    "counter",
    "cairn_raft_elections_won_total",
    "Elections that the node has won.",
    ({ node }) => node.measures.electionsWon,
  ),
  one(
    "gauge",
    "cairn_raft_members",
    "Members of the cluster, voters and learners.",
    ({ node }) => node.raft.membership.members.length,
  ),
  one(
    "gauge",
    "cairn_raft_voters",
    "Voters of the cluster.",
    ({ node }) => node.raft.membership.members.filter(({ role }) => role === "voter").length,
  ),
  one("gauge", "cairn_raft_last_index", "Index of the last entry of the log.", ({ node }) => node.raft.log.last.index),
  one(
    "gauge",
    "cairn_raft_durable_index",
    "Highest index that is durable on this node.",
    ({ node }) => node.raft.log.persisted,
  ),
  one(
    "gauge",
    "cairn_raft_commit_index",
    "Highest index that the node knows to be committed.",
    ({ node }) => node.knownCommit,
  ),
  one(
    "gauge",
    "cairn_raft_applied_index",
    "Highest index that is applied to the state.",
    ({ node }) => node.machine.appliedIndex,
  ),
  one("gauge", "cairn_raft_apply_lag_entries", "Committed entries that are not applied yet.", ({ node }) =>
    Math.max(0, node.knownCommit - node.machine.appliedIndex),
  ),
  {
    type: "gauge",
    name: "cairn_raft_peer_lag_entries",
    help: "On the leader: entries that a member lacks.",
    collect: ({ node }) =>
      node.raft.progress.map(({ key, match }) => ({
        labels: { peer: nameOf(key) },
        value: Math.max(0, node.raft.log.last.index - match),
      })),
  },
  {
    type: "gauge",
    name: "cairn_raft_peer_state",
    help: "On the leader: 1 for the way in which it replicates to a member, 0 for the others.",
    collect: ({ node }) =>
      node.raft.progress.flatMap(({ key, state }) =>
        PROGRESS.map((each) => ({ labels: { peer: nameOf(key), state: each }, value: each === state ? 1 : 0 })),
      ),
  },
  {
    type: "gauge",
    name: "cairn_raft_peer_active",
    help: "On the leader: 1 when a member has answered within an election timeout.",
    collect: ({ node }) =>
      node.raft.progress.map(({ key, isActive }) => ({ labels: { peer: nameOf(key) }, value: isActive ? 1 : 0 })),
  },
  seconds(
    "cairn_write_duration_seconds",
    "From the proposal of a write at this node until it is applied.",
    ({ node }) => node.measures.writes.view(),
  ),
  {
    type: "histogram",
    name: "cairn_write_stage_duration_seconds",
    help: "Time of sampled writes in each stage: queue, sync here, replicate (beside sync), apply.",
    collect: ({ node }) =>
      stages.map((stage) => ({ labels: { stage }, view: node.measures.stages.times[stage].view(), unit: MS })),
  },
  {
    type: "counter",
    name: "cairn_writes_failed_total",
    help: "Writes that a node refused, or whose outcome it does not know, by code.",
    collect: ({ node }) =>
      [...node.measures.failedWrites.entries()].map(([code, value]) => ({ labels: { code }, value })),
  },
  one("gauge", "cairn_writes_waiting", "Writes whose callers wait.", ({ node }) => node.waitingWrites),
  seconds(
    "cairn_read_duration_seconds",
    "From the arrival of a linearizable read until the state has its index.",
    ({ node }) => node.measures.reads.view(),
  ),
  one(
    "counter",
    "cairn_applied_entries_total",
    "Entries applied to the state since the node started.",
    ({ node }) => node.measures.appliedEntries,
  ),
];
