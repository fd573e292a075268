import type { MonitoredNode } from "./monitored.js";

/** Entries behind what it knows to be committed, above which a node is not ready. */
const READY_LAG_ENTRIES = 10_000;

/** Whether a node serves, and why not. */
export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
}

/**
 * Tells whether clients should use a node: it takes part in its cluster, knows a leader, can write
 * and is not far behind. A node that is not ready is alive all the same: restarting it does not
 * help.
 */
export function readinessOf(node: MonitoredNode | undefined): Readiness {
  if (node === undefined) return { ready: false, reasons: ["it is starting"] };
  const { raft } = node;
  const behind = node.knownCommit - node.machine.appliedIndex;
  const reasons = [
    ...(node.isNew ? ["it is new, and waits for its cluster"] : []),
    ...(raft.lost === undefined ? [] : ["it has less than it acknowledged"]),
    ...(raft.removedAt === undefined ? [] : ["it was removed from its cluster"]),
    ...(raft.leader === undefined && !node.isNew ? ["it knows no leader"] : []),
    ...(node.isDiskFull ? ["its disk is full"] : []),
    ...(behind > READY_LAG_ENTRIES ? [`it has not applied ${behind} committed entries`] : []),
  ];
  return { ready: reasons.length === 0, reasons };
}
