import type { Entry } from "../../../../src/raft/types.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";
import { isEqual } from "./committed_log.js";

interface Known {
  readonly entry: Entry;
  /** Term of the entry before it. */
  readonly previousTerm: number;
}

interface Seen {
  readonly index: number;
  readonly term: number;
}

/**
 * Log matching (Raft figure 3): entries of one index and term are the same, and so are all entries before them. It is enough that the entry
 * before has the same term everywhere.
 */
export class LogMatching implements Checker {
  /** All entries that were ever in a log, by term and index. */
  readonly #known = new Map<string, Known>();
  /** End of each log when it was looked at last. */
  readonly #seen = new Map<SimNode, Seen>();

  ended(place: SimNode): void {
    this.#seen.delete(place);
  }

  touched({ place, id, cairn }: Observed): void {
    const { log } = cairn.raft;
    const { boundary } = log;
    const last = endOf(cairn.raft);
    const seen = this.#seen.get(place) ?? { index: boundary.index, term: boundary.term };
    if (seen.index === last.index && seen.term === last.term) return;
    // What was replaced meanwhile has another term where it was replaced, and from there on.
    const kept = log.termAt(seen.index) === seen.term ? seen.index : Math.max(boundary.index, log.commit);
    this.#seen.set(place, { index: last.index, term: last.term });
    for (let first = kept + 1; first <= last.index; ) {
      // Entries that have left memory are read back some other time.
      const entries = log.entriesFrom(first, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
      if (entries === undefined) {
        first += 1;
        continue;
      }
      for (const entry of entries) {
        if (entry.index <= last.index) this.#compare(id, entry, log.termAt(entry.index - 1));
      }
      return;
    }
  }

  #compare(id: string, entry: Entry, previousTerm: number | undefined): void {
    if (previousTerm === undefined) return;
    const { index, term } = entry;
    const key = `${term}/${index}`;
    const known = this.#known.get(key);
    if (known === undefined) {
      this.#known.set(key, { entry, previousTerm });
      return;
    }
    const facts = { node: id, index, term };
    demand(isEqual(known.entry, entry), "entries of one index and term are the same", facts);
    demand(known.previousTerm === previousTerm, "logs that share an entry share the one before it", {
      ...facts,
      previousTerms: [known.previousTerm, previousTerm],
    });
  }
}

/**
 * Where the part of a log ends that anybody can have heard of. Whoever is the only voter leads in a term before that is durable: a crash makes it
 * forget the term with its entries, and it may give the same ones to others. Any other leader's term is durable at those who elected it. A founder
 * has the first entry before that is durable, too.
 */
function endOf({ role, log, membership }: Observed["cairn"]["raft"]): Seen {
  const isAlone = membership.members.filter((member) => member.role === "voter").length === 1;
  const isUnheard = log.persisted === 0 || role === "candidate" || (role === "leader" && isAlone);
  if (!isUnheard || log.persisted >= log.last.index) return log.last;
  return { index: log.persisted, term: log.termAt(log.persisted)! };
}
