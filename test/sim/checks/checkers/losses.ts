import type { RaftView } from "../../../../src/node/views.js";
import type { PeerRequest, Response } from "../../../../src/raft/messages.js";
import type { LogPosition } from "../../../../src/raft/types.js";
import type { Directories, Taken } from "../../world/directories.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";

/**
 * T3: a member that has less than it acknowledged is found out, and no other one. Before that it may do what cannot be undone: give a vote that it
 * would not have given, or forget one. Then its cluster is not saved, and `excuse` is told.
 */
export class Losses implements Checker {
  constructor(
    private readonly directories: Directories,
    private readonly excuse: (clusterId: string, why: string) => void,
    private readonly isExcused: (clusterId: string) => boolean,
  ) {}

  sent(place: SimNode, request: PeerRequest): void {
    if (request.type !== "request_vote" || request.preVote) return;
    const { taken, clusterId } = this.directories.of(request.from);
    if (taken !== undefined && forgets(taken, request)) this.excuse(clusterId, `${place.id} campaigns`);
  }

  /** `wasLost`: it knew of its loss when the request came. */
  answered(place: SimNode, request: PeerRequest, answer: Response, wasLost: boolean): void {
    const facts = { node: place.id, request: request.type, term: request.term };
    const { taken, clusterId } = this.directories.of(request.to);
    if (request.type === "request_vote" && answer.type === "request_vote_answer") {
      demand(!(answer.granted && wasLost), "T3: a node that has lost data votes no more", facts);
      if (!answer.granted || request.preVote || taken === undefined) return;
      if (forgets(taken, request)) this.excuse(clusterId, `${place.id} votes`);
    }
    if (request.type !== "append_entries" || answer.type !== "append_entries_answer") return;
    const { acknowledged = 0 } = request;
    const isAccepted = answer.outcome === "accepted" || answer.rejection.reason === "log_mismatch";
    demand(
      !isAccepted || (!wasLost && answer.lastIndex >= acknowledged),
      "T3: a node that has less than it acknowledged says so",
      { ...facts, wasLost, acknowledged, last: answer.lastIndex },
    );
    if (answer.outcome === "accepted" && taken !== undefined && request.term < taken.term) {
      this.excuse(clusterId, `${place.id} follows a leader that was deposed`);
    }
  }

  touched({ place, id, cairn }: Observed): void {
    const { raft } = cairn;
    if (raft.lost !== undefined && place.damage === undefined) this.seen(id, place.id);
    if (raft.role === "follower") return;
    const { taken, clusterId } = this.directories.of(id);
    if (taken === undefined || raft.role === "pre-candidate") return;
    if (forgets(taken, { term: raft.term, last: lastAtElection(raft) }))
      this.excuse(clusterId, `${place.id} elects itself`);
  }

  /**
   * Somebody takes a member for one that has lost data. In a cluster that is not saved, members acknowledge different logs, so that a whole one
   * may seem to lack something.
   */
  seen(key: string, by: string): void {
    const { taken, isGone, clusterId } = this.directories.of(key);
    if (this.isExcused(clusterId)) return;
    demand(taken !== undefined || isGone, "T3: a healthy node is never taken for lost", { key, by });
  }
}

/** Returns where the log ended when the node campaigned. The only voter is a leader, with an entry of its term, before anybody sees it campaign. */
function lastAtElection({ term, log }: Pick<RaftView, "term" | "log">): LogPosition {
  let { index } = log.last;
  while (index > log.boundary.index && log.termAt(index) === term) index--;
  return { index, term: log.termAt(index) ?? 0 };
}

/** Whether somebody who remembers all might not vote so, or not in that term. */
function forgets(taken: Taken, { term, last }: { readonly term: number; readonly last: LogPosition }): boolean {
  const isBehind = last.term < taken.last.term || (last.term === taken.last.term && last.index < taken.last.index);
  return term <= taken.term || isBehind;
}
