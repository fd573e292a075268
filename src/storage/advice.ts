/** What an operator can do about a node's data that is lost or damaged: the end of every message that refuses to start on it. */
export const RESTORE_OR_REJOIN =
  "Restore it from a copy. Only if other members of the cluster hold the data: move the data directory away, and start the node again as it was " +
  "started first; with --cluster it comes back by itself, else remove it with 'cairn member remove' and start it with --join. " +
  "A node that is alone in its cluster has the only copy.";
