import { assert } from "../../../src/base/assert.js";
import type { Entry, IndexedMembership, Membership } from "../../../src/raft/types.js";
import { codec, command, configuration, voters } from "../../support/nodes/core.js";

/** A leader other than the node under test, as that one may hear of it, also long after its term is over. */
export interface ModelLeader {
  readonly id: string;
  readonly term: number;
  /** Entry i is at i - 1. Only grows. */
  readonly log: Entry[];
  /** Stands still when the leader is deposed. */
  commit: number;
}

export const initialMembership: IndexedMembership = { index: 0, members: voters("n1") };

/**
 * The rest of the cluster, omniscient: correct leaders of rising terms, one after the other. Each one's log begins with all that was
 * committed before it (Leader Completeness, Raft section 5.4), and only the last one commits, entries of its own term first.
 */
export class ModelCluster {
  readonly leaders: ModelLeader[] = [];
  /** What is committed, by whomever: entry i is at i - 1. */
  readonly committed: Entry[] = [];
  /** The leader that may still commit. */
  active: ModelLeader | undefined;
  highestTerm = 0;

  /** A new leader whose log was `base`: a log that some member has. */
  elect(term: number, base: readonly Entry[]): ModelLeader {
    assert(term > this.highestTerm, "a term has one leader", { term, highest: this.highestTerm });
    this.committed.forEach((entry, at) => {
      assert(base[at]?.term === entry.term, "a leader has all committed entries", { index: entry.index });
    });
    this.highestTerm = term;
    const log = [...base, { index: base.length + 1, term, type: "no-op", data: new Uint8Array() } as const];
    this.active = { id: `leader-${term}`, term, log, commit: this.committed.length };
    this.leaders.push(this.active);
    return this.active;
  }

  /** The active leader appends an entry. */
  extend(leader: ModelLeader, isConfiguration: boolean): void {
    const index = leader.log.length + 1;
    const learner = { id: "x", address: `${index}-${leader.term}`, role: "learner" } as const;
    leader.log.push(
      isConfiguration
        ? configuration(index, leader.term, [...voters("n1"), learner])
        : command(index, leader.term, `${leader.id}:${index}`),
    );
  }

  /** The active leader finds its log replicated up to `index`. Earlier terms' entries are committed with its own only. */
  commit(leader: ModelLeader, index: number): void {
    if (index <= leader.commit || leader.log[index - 1]?.term !== leader.term) return;
    leader.commit = index;
    this.committed.push(...leader.log.slice(this.committed.length, index));
  }

  /** All present leaders are deposed. */
  depose(term: number): void {
    this.active = undefined;
    this.highestTerm = Math.max(this.highestTerm, term);
  }
}

/** The membership in force at an index of a log that is known from its start. */
export function membershipAt(log: readonly Entry[], index: number): IndexedMembership {
  const found = log.slice(0, index).findLast((entry) => entry.type === "configuration");
  return found === undefined ? initialMembership : { index: found.index, members: decode(found) };
}

export function decode(entry: Entry): Membership {
  return codec.decode(entry.data);
}
