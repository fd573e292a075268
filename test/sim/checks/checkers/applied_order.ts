import type { Entry, SnapshotMeta } from "../../../../src/raft/types.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";

/** A state gets every entry once and in order, or a whole snapshot, which never takes a node that runs back. */
export class AppliedOrder implements Checker {
  readonly #applied = new Map<SimNode, number>();

  started({ place, cairn }: Observed): void {
    this.#applied.set(place, cairn.machine.appliedIndex);
  }

  ended(place: SimNode): void {
    this.#applied.delete(place);
  }

  applied(place: SimNode, entries: readonly Entry[]): void {
    const before = this.#applied.get(place);
    // While a node recovers, its log is replayed into whatever it has.
    if (before === undefined) return;
    entries.forEach((entry, at) => {
      demand(entry.index === before + 1 + at, "entries are applied once and in order", {
        node: place.id,
        before,
        entry: entry.index,
      });
    });
    this.#applied.set(place, before + entries.length);
  }

  restored(place: SimNode, { index }: SnapshotMeta): void {
    const before = this.#applied.get(place);
    if (before === undefined) return;
    demand(index > before, "a snapshot never takes the state back", { node: place.id, before, snapshot: index });
    this.#applied.set(place, index);
  }
}
