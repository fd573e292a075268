import { majority } from "../../../../src/raft/membership/quorum.js";
import type { PeerRequest, Response } from "../../../../src/raft/messages.js";
import { getOrAdd } from "../../world/maps.js";
import type { SimNode } from "../../world/node.js";
import { votersOf } from "../voters.js";
import { type Checker, demand, type Observed } from "./checker.js";

/** A node votes once in a term, whatever happened to it in between, and a leader was elected by a majority of the members that vote. */
export class Votes implements Checker {
  /** By term: who voted for whom. */
  readonly #votes = new Map<number, Map<string, string>>();
  readonly #counted = new Set<number>();

  answering({ id }: Observed, request: PeerRequest, answer: Response): void {
    if (request.type !== "request_vote" || answer.type !== "request_vote_answer") return;
    if (request.preVote || !answer.granted) return;
    this.#vote(request.term, id, request.from);
  }

  /** With its request a candidate votes for itself; before it has sent one, a crash may still make it forget that. */
  sent(_place: SimNode, request: PeerRequest): void {
    if (request.type === "request_vote" && !request.preVote) this.#vote(request.term, request.from, request.from);
  }

  touched({ id, cairn }: Observed): void {
    const { role, term, membership } = cairn.raft;
    if (role !== "leader" || this.#counted.has(term)) return;
    this.#vote(term, id, id);
    this.#counted.add(term);
    const voters = votersOf(membership.members);
    const votes = this.#votes.get(term)!;
    const won = voters.filter((voter) => votes.get(voter) === id);
    demand(won.length >= majority(voters.length), "a leader has the votes of a majority of the voters", {
      leader: id,
      term,
      voters,
      votes: [...votes],
    });
  }

  #vote(term: number, voter: string, candidate: string): void {
    const votes = getOrAdd(this.#votes, term, () => new Map());
    const known = votes.get(voter);
    demand(known === undefined || known === candidate, "a node votes once in a term", {
      term,
      voter,
      known,
      candidate,
    });
    votes.set(voter, candidate);
  }
}
