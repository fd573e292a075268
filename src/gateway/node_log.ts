import type { GetLogInfoResponse } from "../../gen/cairn/v1/admin_pb.js";
import { limits } from "../base/limits.js";
import { TermRanges } from "../raft/term_ranges.js";
import type { LogPosition } from "../raft/types.js";

/**
 * The terms of a node's log, as far as its leader knows them: from the node's own report, and from
 * the entries that the node has accepted since. Committed entries never change, so what this says
 * of them stays true.
 */
export class NodeLog {
  readonly #terms: TermRanges;
  #committed: number;

  constructor({ terms, lastIndex, commitIndex }: Pick<GetLogInfoResponse, "terms" | "lastIndex" | "commitIndex">) {
    const ranges = terms.map(({ firstIndex, term }) => ({ index: Number(firstIndex), term: Number(term) }));
    this.#terms = new TermRanges(ranges[0] ?? { index: 0, term: 0 });
    for (const [at, { term }] of ranges.entries()) {
      const end = ranges[at + 1]?.index ?? Number(lastIndex) + 1;
      this.#terms.extendTo(end - 1, term);
    }
    this.#committed = Number(commitIndex);
  }

  get last(): LogPosition {
    return this.#terms.last;
  }

  /** Returns the term at an index; undefined where it is not known. */
  termAt(index: number): number | undefined {
    return this.#terms.termAt(index);
  }

  /** Returns the entries from the first that is not committed in this log. */
  lacking<Entry extends LogPosition>(entries: readonly Entry[]): readonly Entry[] {
    const at = entries.findIndex((entry) => !this.#holds(entry));
    return at < 0 ? [] : entries.slice(at);
  }

  /**
   * Adds entries that the node has accepted. Adds none behind an entry that is not known here:
   * somebody else has given it to the node.
   */
  accepted(entries: readonly LogPosition[]): void {
    const first = entries[0];
    if (first === undefined || this.termAt(first.index - 1) === undefined) return;
    this.#terms.truncateAfter(first.index - 1);
    for (const { index, term } of entries) this.#terms.append(index, term);
    const { ranges } = this.#terms;
    if (ranges.length > limits.termRanges) this.#terms.trimTo(ranges.at(-limits.termRanges)!.firstIndex);
  }

  committedTo(index: number): void {
    this.#committed = Math.max(this.#committed, index);
  }

  /** Entries before the oldest known term are behind a snapshot, where nobody can compare them. */
  #holds({ index, term }: LogPosition): boolean {
    return index >= 1 && index <= this.#committed && (this.termAt(index) ?? term) === term;
  }
}
