/** What an operator can do about a node's data that is lost or damaged: the end of every message that refuses to start on it. */
export const RESTORE_OR_REJOIN =
  "Restore it from a copy. Only if other members of the cluster hold the data: empty the data directory and let the node join again. " +
  "A node that is alone in its cluster has the only copy.";
