import type { PeerRequest, Response } from "./messages.js";
import type { Entry, HardState, SnapshotMeta } from "./types.js";

/**
 * Describes the work that the node must carry out next, and its order. The node takes one Ready,
 * writes it, and calls `written` with it before it takes the next one.
 */
export interface Ready {
  /**
   * A snapshot to install. It lies on disk, verified, under a temporary name. The node first
   * publishes it, then makes the log start at it, each durable before the next; it keeps the later
   * entries when the log has the snapshot's last entry with the same term and the core still has
   * any. Then it switches the state machine. That may take long, is no part of this Ready, and ends
   * with `snapshotInstalled`; until then no Ready holds anything to apply. A crash between any two
   * of these steps is repaired at the next start (R8). The sender's term is durable already: an
   * earlier Ready held it.
   */
  readonly snapshot: SnapshotMeta | undefined;
  /**
   * Term, vote and commit index to write, in the same write as `entries`. Undefined when unchanged.
   */
  readonly hardState: HardState | undefined;
  /**
   * Entries to write to the log. The first one may replace an entry of the log, and with it all
   * later ones.
   */
  readonly entries: readonly Entry[];
  /**
   * Whether `hardState` and `entries` must be durable before `messages` are sent. False when only
   * the commit index moved.
   */
  readonly mustSync: boolean;
  /**
   * Messages that promise the writes above: sent only when all of them are durable. (Messages that
   * promise nothing come out of takeMessages.)
   */
  readonly messages: readonly (Response | PeerRequest)[];
  /**
   * Entries to apply in this order, each exactly once. They are committed and durable already, and
   * so is the term in which this node learned that, so applying need not wait for this Ready's
   * write.
   */
  readonly committed: readonly Entry[];
}
