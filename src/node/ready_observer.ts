import type { StateMachine } from "../machine/state_machine.js";
import type { PeerRequest, Response } from "../raft/messages.js";
import type { ReadyObserver } from "./ready_loop.js";
import type { PeerRequests } from "./requests/peer_requests.js";
import type { Proposals } from "./requests/proposals.js";
import type { AppliedWaiters } from "./requests/waiters.js";
import type { Snapshotting } from "./snapshots/snapshotting.js";

/** The parts of a node that the loop reports to. */
export interface ObservingParts<Result, Machine extends StateMachine<Result>> {
  readonly machine: Machine;
  readonly proposals: Proposals<Result>;
  readonly waiters: AppliedWaiters;
  readonly requests: PeerRequests;
  readonly snapshotting: Snapshotting<Machine>;
  send(message: Response | PeerRequest): void;
  turn(): void;
}

/**
 * Returns an observer that reports the loop's work to a node's parts: callers get their answers,
 * and the snapshot policy gets its counts.
 */
export function observerOf<Result, Machine extends StateMachine<Result>>(
  parts: ObservingParts<Result, Machine>,
): ReadyObserver<Result> {
  const { machine, proposals, waiters, requests, snapshotting } = parts;
  return {
    staged: () => requests.staged,
    applied: (entries, results) => {
      proposals.applied(entries, results);
      waiters.reached(machine.appliedIndex);
      snapshotting.applied(entries[0]!.index, machine.appliedIndex);
    },
    installed: (info, ms) => {
      proposals.overtaken(info.index);
      waiters.reached(info.index);
      snapshotting.installed(info, ms);
    },
    send: (message) => parts.send(message),
    advanced: () => parts.turn(),
  };
}
