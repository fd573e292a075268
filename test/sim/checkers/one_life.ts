import type { SimNode } from "../sim_node.js";
import { type Checker, demand, type Observed } from "./checker.js";
import type { CommittedLog } from "./committed_log.js";

interface Seen {
  readonly term: number;
  readonly commit: number;
  readonly applied: number;
  readonly boundary: number;
}

/** What never falls while a process lives, and the order of the places in its log. */
export class OneLife implements Checker {
  readonly #seen = new Map<SimNode, Seen>();

  constructor(private readonly committed: CommittedLog) {}

  ended(place: SimNode): void {
    this.#seen.delete(place);
  }

  touched({ place, id, cairn }: Observed): void {
    const { raft, machine } = cairn;
    const { log, term, snapshot, isInstalling } = raft;
    const { commit, applied, boundary, last, persisted } = log;
    const seen = this.#seen.get(place);
    const facts = {
      node: id,
      term,
      boundary: boundary.index,
      applied,
      commit,
      last: last.index,
      snapshot: snapshot?.index,
    };
    if (seen !== undefined) {
      const isRising = term >= seen.term && commit >= seen.commit && applied >= seen.applied;
      demand(
        isRising && boundary.index >= seen.boundary,
        "term, commit, applied and boundary never fall within a life",
        {
          ...facts,
          seen,
        },
      );
    }
    this.#seen.set(place, { term, commit, applied, boundary: boundary.index });
    demand(applied <= commit && commit <= last.index && persisted <= last.index, "applied <= commit <= last", facts);
    demand(boundary.index <= (snapshot?.index ?? 0), "the log starts where a snapshot covers what is before", facts);
    // The core hears of what was applied, and takes over what was installed, a moment apart from the state.
    if (!isInstalling) {
      demand(
        (snapshot?.index ?? 0) <= applied && applied <= machine.appliedIndex,
        "snapshot <= applied <= the state's index",
        facts,
      );
    }
    const known = this.committed.termAt(boundary.index);
    const isAnswerable =
      log.termAt(boundary.index) === boundary.term && (known === undefined || boundary.term === known);
    demand(isAnswerable, "the term at the boundary is known", { ...facts, term: boundary.term, known });
  }
}
