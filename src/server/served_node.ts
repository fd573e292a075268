import type { StateMachine } from "../machine/state_machine.js";
import type { CairnNode } from "../node/node.js";

/** The part of a node that its services use, whatever its state machine is. */
export type ServedNode = Pick<
  CairnNode<unknown, StateMachine>,
  | "id"
  | "incarnation"
  | "clusterId"
  | "identity"
  | "elections"
  | "recovery"
  | "receiver"
  | "protocol"
  | "fitness"
  | "raft"
  | "machine"
  | "snapshots"
  | "logStats"
  | "transfers"
  | "snapshotting"
  | "isDiskFull"
  | "waitApplied"
  | "appendEntries"
  | "requestVote"
  | "timeoutNow"
  | "receiveSnapshot"
  | "takeSnapshot"
  | "compact"
  | "campaign"
  | "transferLeadership"
  | "changeMembership"
>;
