import type { StateMachine } from "../machine/state_machine.js";
import { isAnswer, type PeerRequest, type Response } from "../raft/messages.js";
import type { NodeMeasures } from "./measures/node_measures.js";
import type { Peers } from "./peers.js";
import type { ReadyObserver } from "./ready_loop.js";
import type { AppliedLog } from "./requests/applied_log.js";
import type { PeerRequests } from "./requests/peer_requests.js";
import type { Proposals } from "./requests/proposals.js";
import type { AppliedWaiters } from "./requests/waiters.js";
import type { Snapshotting } from "./snapshots/snapshotting.js";
import type { Turns } from "./turns.js";

/** The parts of a node that the loop reports to. */
export interface ObservingParts<Result, Machine extends StateMachine<Result>> {
  readonly machine: Machine;
  readonly proposals: Proposals<Result>;
  readonly waiters: AppliedWaiters;
  readonly appliedLog: AppliedLog;
  readonly requests: PeerRequests;
  readonly peers: Peers;
  readonly snapshotting: Snapshotting<Machine>;
  readonly turns: Turns;
  readonly measures: Pick<NodeMeasures, "stages" | "appliedEntries">;
}

/**
 * Returns an observer that reports the loop's work to a node's parts: callers get their answers,
 * and the snapshot policy gets its counts.
 */
export function observerOf<Result, Machine extends StateMachine<Result>>(
  parts: ObservingParts<Result, Machine>,
): ReadyObserver<Result> {
  const { machine, proposals, waiters, appliedLog, requests, snapshotting, turns, measures } = parts;
  return {
    staged: () => requests.staged,
    applied: (entries, results) => {
      measures.appliedEntries += entries.length;
      measures.stages.applied(machine.appliedIndex);
      proposals.applied(entries, results);
      waiters.reached(machine.appliedIndex);
      snapshotting.applied(entries[0]!.index, machine.appliedIndex);
      appliedLog.advanced();
    },
    installed: (info, ms) => {
      proposals.overtaken(info.index);
      waiters.reached(info.index);
      snapshotting.installed(info, ms);
      appliedLog.advanced();
    },
    send: (message) => deliver(message, parts),
    advanced: () => turns.now(),
  };
}

/** Sends a message of the core: an answer to the caller that waits for it, a request to a peer. */
export function deliver(
  message: Response | PeerRequest,
  { requests, peers }: { readonly requests: PeerRequests; readonly peers: Peers },
): void {
  if (isAnswer(message)) requests.answer(message);
  else peers.send(message);
}
