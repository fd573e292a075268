import { memberKey, nameOf } from "../../../../src/base/ids.js";
import type { PeerAnswer, PeerRequest, Response } from "../../../../src/raft/messages.js";
import type { IndexedMembership, Member } from "../../../../src/raft/types.js";
import type { SimCluster } from "../../world/cluster.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";

/** Whoever answered so many milliseconds ago runs: less than an election timeout of a clock that is too fast. */
const ANSWERS_MS = 500;

/** What a leader changes in its membership: whom it lets take another one's place (T1), and whose vote it gives or takes (T4). */
export class Changes implements Checker {
  /** When each member was last heard, by its leader's place and term. */
  readonly #heard = new Map<string, number>();
  /** Members that have acknowledged anything. */
  readonly #acknowledged = new Set<string>();
  readonly #seen = new Map<SimNode, { readonly term: number; readonly membership: IndexedMembership }>();

  constructor(private readonly cluster: SimCluster) {}

  ended(place: SimNode): void {
    this.#seen.delete(place);
  }

  heard({ place, cairn }: Observed, answer: PeerAnswer): void {
    if (answer.type !== "append_entries_answer" || answer.request.term !== cairn.raft.term) return;
    if (answer.outcome === "rejected" && answer.rejection.reason === "lost") return;
    this.#heard.set(`${place.id}/${answer.request.term}/${answer.from}`, this.cluster.scheduler.nowMs);
  }

  answering({ id }: Observed, request: PeerRequest, answer: Response): void {
    if (request.type !== "append_entries" || answer.type !== "append_entries_answer") return;
    if (answer.outcome === "accepted" && answer.matchIndex > 0) this.#acknowledged.add(id);
  }

  promised({ id }: Observed): void {
    this.#acknowledged.add(id);
  }

  touched({ place, id, cairn }: Observed): void {
    const { role, term, membership } = cairn.raft;
    const seen = this.#seen.get(place);
    if (seen?.membership === membership && seen.term === term) return;
    if (role !== "leader") {
      this.#seen.delete(place);
      return;
    }
    this.#seen.set(place, { term, membership });
    if (seen === undefined || seen.term !== term || seen.membership.members.length === 0) return;
    for (const before of seen.membership.members) {
      const after = membership.members.find((member) => member.id === before.id);
      this.#compare(place, term, before, after, id);
    }
  }

  #compare(place: SimNode, term: number, before: Member, after: Member | undefined, leader: string): void {
    const { directories, scheduler } = this.cluster;
    const key = memberKey(before);
    const facts = { leader, before, after };
    if (after === undefined || (votes(before) && !votes(after))) {
      const isAsked = after === undefined && this.cluster.removals.has(before.id);
      demand(isAsked, "T4: nobody but an operator takes a member's vote", facts);
      return;
    }
    if (memberKey(after) !== key && directories.isWhole(key)) {
      const heard = this.#heard.get(`${place.id}/${term}/${key}`);
      const isSilent = key !== leader && (heard === undefined || scheduler.nowMs - heard >= ANSWERS_MS);
      demand(isSilent, "T1: no directory takes the place of one that answers", {
        ...facts,
        heard,
        now: scheduler.nowMs,
      });
    }
    if (before.role === "learner" && after.role === "voter") {
      const hasAny = this.#acknowledged.has(memberKey(after));
      demand(hasAny, "T4: a learner votes when it has caught up", { ...facts, name: nameOf(key) });
      this.cluster.removals.delete(after.id);
      this.cluster.count(before.wantsVote === true ? "learner votes again" : "learner votes");
    }
  }
}

/** Or will again. */
function votes({ role, wantsVote }: Member): boolean {
  return role === "voter" || wantsVote === true;
}
