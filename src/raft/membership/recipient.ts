/** The data directory that a message between members addresses. */
export interface Recipient {
  readonly clusterId: string;
  /** The node's name. */
  readonly id: string;
  /** The directory's incarnation; empty for a given identity. */
  readonly incarnation: string;
}

/** The reason why a message is not meant for a node. */
export type Misdirection =
  /** The node belongs to no cluster yet. */
  | { readonly isNew: true }
  | {
      readonly what: "cluster_id" | "receiver_id" | "receiver_incarnation";
      readonly expected: string;
      readonly got: string;
    };

/**
 * Returns the reason why a member's message is not meant for this node; undefined when it is. A
 * message for another cluster, or for the directory that had this name before, must change nothing
 * here, not even the term (T1).
 */
export function misdirected(meant: Recipient, own: Recipient): Misdirection | undefined {
  if (own.clusterId === "") return { isNew: true };
  if (meant.clusterId !== own.clusterId) return { what: "cluster_id", expected: own.clusterId, got: meant.clusterId };
  if (meant.id !== own.id) return { what: "receiver_id", expected: own.id, got: meant.id };
  if (meant.incarnation !== own.incarnation) {
    return { what: "receiver_incarnation", expected: own.incarnation, got: meant.incarnation };
  }
  return undefined;
}
