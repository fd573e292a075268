import type { PeerRequest, Response } from "./messages.js";
import type { Entry, HardState, SnapshotMeta } from "./types.js";

/**
 * Describes the work that the node must carry out next, and its order. The node takes one Ready,
 * carries it out, and calls `advance` with it before it takes the next one.
 */
export interface Ready {
  /**
   * A snapshot that is to become this node's state. It lies on disk, verified, under a temporary
   * name. First of all: publish it, then make the log start at it (keeping the entries behind it
   * when the log has its last entry with the same term, and the core has any), each durable before
   * the next. Then the state machine is to be switched: that may take long, is no part of this
   * Ready, and is reported with `snapshotInstalled`; until then no Ready holds anything to apply. A
   * crash between any two of these is mended at the next start (R8). The term of the leader that
   * sent it is durable already: an earlier Ready held it.
   */
  readonly snapshot: SnapshotMeta | undefined;
  /** To be written with `entries`, in the same write. Undefined when unchanged. */
  readonly hardState: HardState | undefined;
  /**
   * To be written to the log. The first one may replace an entry that is there, and with it all
   * behind it.
   */
  readonly entries: readonly Entry[];
  /**
   * Whether `hardState` and `entries` must be durable before `messages` are sent. False when only
   * the commit index moved.
   */
  readonly mustSync: boolean;
  /**
   * Promises made of what is above: to be sent only when all of that is durable. (What promises
   * nothing comes out of takeMessages.)
   */
  readonly messages: readonly (Response | PeerRequest)[];
  /**
   * To be applied in this order, each exactly once. They are committed and durable already, and so
   * is the term in which this node learned that: no need to wait for this Ready's write.
   */
  readonly committed: readonly Entry[];
}
