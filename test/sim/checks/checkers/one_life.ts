import type { SimNode } from "../../world/node.js";
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
    this.#seen.set(place, { term, commit, applied, boundary: boundary.index });
    const isRising =
      seen === undefined ||
      (term >= seen.term && commit >= seen.commit && applied >= seen.applied && boundary.index >= seen.boundary);
    const known = this.committed.termAt(boundary.index);
    const snapshotIndex = snapshot?.index ?? 0;
    const rules = {
      "term, commit, applied and boundary never fall within a life": isRising,
      "applied <= commit <= last": applied <= commit && commit <= last.index && persisted <= last.index,
      "the log starts where a snapshot covers what is before": boundary.index <= snapshotIndex,
      // The core hears of what was applied, and takes over what was installed, a moment apart from the state.
      "snapshot <= applied <= the state's index":
        isInstalling || (snapshotIndex <= applied && applied <= machine.appliedIndex),
      "the term at the boundary is known":
        log.termAt(boundary.index) === boundary.term && (known === undefined || boundary.term === known),
    };
    for (const [rule, holds] of Object.entries(rules)) {
      // What is told is put together only when it is needed: this is looked at after every event.
      if (!holds)
        demand(false, rule, { node: id, seen, term, boundary, known, snapshot, applied, commit, last, persisted });
    }
  }
}
