import type { Entry } from "../../../../src/raft/types.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";

/** A committed entry: what it holds is known once a node had it in memory when it was committed, or has applied it. */
interface Committed {
  readonly term: number;
  /** Term in which it was committed, or a later one; not known when a node was seen to apply it first. */
  readonly committedIn: number;
  entry: Entry | undefined;
}

/**
 * The log of all that was ever committed, which nobody in the cluster has: every index is committed once, with one term and one content, at
 * every node (state machine safety, Raft figure 3).
 */
export class CommittedLog implements Checker {
  readonly #entries: Committed[] = [{ term: 0, committedIn: 0, entry: undefined }];
  /** Up to where each node's present life was compared. */
  readonly #seen = new Map<SimNode, number>();

  get last(): number {
    return this.#entries.length - 1;
  }

  /** Undefined above {@link last}. */
  termAt(index: number): number | undefined {
    return this.#entries[index]?.term;
  }

  /** Highest index that is known to have been committed in a term below this one. */
  lastBefore(term: number): number {
    let index = this.last;
    while (this.#entries[index]!.committedIn >= term) index -= 1;
    return index;
  }

  /** An entry that some node has applied. */
  entryAt(index: number): Entry | undefined {
    return this.#entries[index]?.entry;
  }

  started(node: Observed): void {
    this.#seen.set(node.place, node.cairn.raft.log.boundary.index);
    this.touched(node);
  }

  ended(place: SimNode): void {
    this.#seen.delete(place);
  }

  touched({ place, id, cairn }: Observed): void {
    const { log, term: present } = cairn.raft;
    const seen = this.#seen.get(place) ?? 0;
    if (log.commit <= seen) return;
    this.#seen.set(place, log.commit);
    for (let index = Math.max(seen + 1, log.boundary.index); index <= log.commit; index++) {
      const term = log.termAt(index)!;
      if (index > this.last)
        this.#add(index, { term, committedIn: present, entry: log.entriesFrom(index, 1, 0)?.[0] }, id);
      const known = this.#entries[index]!;
      demand(term === known.term, "committed entries are the same everywhere", {
        node: id,
        index,
        term,
        known: known.term,
      });
    }
  }

  applied(place: SimNode, entries: readonly Entry[]): void {
    this.replayed(place, entries);
  }

  replayed(place: SimNode, entries: readonly Entry[]): void {
    for (const entry of entries) {
      const { index, term } = entry;
      if (index > this.last) this.#add(index, { term, committedIn: UNKNOWN, entry }, place.id);
      const known = this.#entries[index]!;
      known.entry ??= entry;
      const isSame = term === known.term && isEqual(entry, known.entry);
      demand(isSame, "what is applied is what was committed", { node: place.id, index, term, known: known.term });
    }
  }

  #add(index: number, committed: Committed, id: string): void {
    demand(index === this.last + 1, "no index is committed before the one below it", {
      node: id,
      index,
      last: this.last,
    });
    this.#entries.push(committed);
  }
}

const UNKNOWN = Number.POSITIVE_INFINITY;

/** Whether two entries of one index hold the same. */
export function isEqual(a: Entry, b: Entry): boolean {
  return a === b || (a.term === b.term && a.type === b.type && Buffer.compare(a.data, b.data) === 0);
}
