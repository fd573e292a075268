import { majority } from "../../../../src/raft/membership/quorum.js";
import type { PeerRequest, Response } from "../../../../src/raft/messages.js";
import { getOrAdd } from "../../world/maps.js";
import type { SimNode } from "../../world/node.js";
import { votersOf } from "../voters.js";
import { type Checker, demand, type Observed } from "./checker.js";

/** A leader commits what a majority of the members that vote has told it to have, and nobody else is counted. */
export class Majorities implements Checker {
  /** By leader and term: how far each node has told that its log agrees. */
  readonly #matches = new Map<string, Map<string, number>>();
  /** Where each leader was last. */
  readonly #commits = new Map<SimNode, { readonly term: number; readonly commit: number }>();

  /** A voter that is alone leads before its vote is durable; after a power failure it may lead again in the same term, and know of less. */
  ended(place: SimNode): void {
    this.#commits.delete(place);
  }

  answering({ id }: Observed, request: PeerRequest, answer: Response): void {
    if (request.type !== "append_entries" || answer.type !== "append_entries_answer") return;
    if (answer.outcome === "accepted" && answer.term === request.term) {
      this.#matched(request.from, request.term, id, answer.matchIndex);
    }
  }

  promised({ id }: Observed, leader: string, term: number, matchIndex: number): void {
    this.#matched(leader, term, id, matchIndex);
  }

  touched({ place, id, cairn }: Observed): void {
    const { role, term, log, membership } = cairn.raft;
    if (role !== "leader") return;
    const before = this.#commits.get(place);
    this.#commits.set(place, { term, commit: log.commit });
    if (before?.term !== term || before.commit === log.commit) return;
    const voters = votersOf(membership.members);
    const matches = this.#matches.get(`${id}/${term}`);
    const holders = voters.filter((voter) => (voter === id ? log.persisted : (matches?.get(voter) ?? 0)) >= log.commit);
    demand(holders.length >= majority(voters.length), "a leader commits what a majority of the voters has", {
      leader: id,
      term,
      commit: log.commit,
      persisted: log.persisted,
      voters,
      matches: [...(matches ?? [])],
    });
    demand(log.termAt(log.commit) === term, "a leader commits by counting only entries of its own term", {
      leader: id,
      term,
      commit: log.commit,
      entryTerm: log.termAt(log.commit),
    });
  }

  #matched(leader: string, term: number, follower: string, index: number): void {
    const key = `${leader}/${term}`;
    const matches = getOrAdd(this.#matches, key, () => new Map());
    matches.set(follower, Math.max(matches.get(follower) ?? 0, index));
  }
}
