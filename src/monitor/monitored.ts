import type { StateMachine } from "../machine/state_machine.js";
import type { CairnNode } from "../node/node.js";
import type { CertificateInfo } from "../rpc/security/tls_material.js";
import type { CallMeasures } from "../server/call_measures.js";

/** The part of a node that is shown. */
export type MonitoredNode = Pick<
  CairnNode<unknown, StateMachine>,
  | "id"
  | "clusterId"
  | "incarnation"
  | "isNew"
  | "raft"
  | "machine"
  | "knownCommit"
  | "snapshots"
  | "snapshotting"
  | "retention"
  | "logStats"
  | "transfers"
  | "receiver"
  | "fitness"
  | "protocol"
  | "measures"
  | "isDiskFull"
  | "waitingWrites"
  | "recovery"
  | "takeSnapshot"
  | "transferLeadership"
>;

/** The part of a node's server that is shown. */
export interface MonitoredServer {
  readonly calls: CallMeasures;
  /** Number of connections, by the part that they play. */
  readonly connections: Readonly<Record<string, number>>;
  /** Number of things that the services hold for their callers, by name. */
  readonly holdings: Readonly<Record<string, number>>;
}

/**
 * A member that is shown. Its node and its server are others after its data directory has changed
 * its identity.
 */
export interface Monitored {
  readonly node: MonitoredNode;
  readonly server: MonitoredServer;
  /** The certificates in use; none without TLS. */
  readonly certificates?: readonly CertificateInfo[] | undefined;
  /** Addresses by member, where the cluster's own cannot be reached from here. */
  readonly peerAddresses?: Readonly<Record<string, string>> | undefined;
  /** Problems with these certificates, in words. */
  readonly tlsWarnings?: readonly string[] | undefined;
  /** Connections of clients to the ingress processes; undefined without such processes. */
  readonly ingressConnections?: number | undefined;
  /** Connections refused by TLS; undefined without TLS. */
  readonly refusedConnections?: number | undefined;
}

/** Returns the problems of a member that need an operator, in words. */
export function warningsOf({ node, tlsWarnings = [] }: Monitored): string[] {
  return [...node.fitness.warnings, ...node.snapshotting.warnings, ...node.protocol.warnings, ...tlsWarnings];
}
