import { assert, assertCount } from "../../base/assert.js";
import { limits } from "../../base/limits.js";
import type { TermRanges } from "../../raft/term_ranges.js";
import type { Entry, HardState, LogPosition } from "../../raft/types.js";

// Rules for the entries and the hard state that a log takes.

/**
 * Asserts that entries may be appended to a log: consecutive, above its boundary, without a hole,
 * with terms that never fall.
 */
export function checkEntries(terms: TermRanges, entries: readonly Entry[]): void {
  const first = entries[0];
  if (first === undefined) return;
  const { boundary, last } = terms;
  assert(first.index > boundary.index && first.index <= last.index + 1, "entries join the log without a hole", {
    index: first.index,
    boundary: boundary.index,
    last: last.index,
  });
  let previous: LogPosition = { index: first.index - 1, term: terms.termAt(first.index - 1)! };
  for (const entry of entries) {
    assertCount(entry.index, "index");
    assertCount(entry.term, "term");
    if (entry.index !== previous.index + 1) {
      assert(false, "entries are consecutive", { index: entry.index, after: previous.index });
    }
    if (entry.term < previous.term) {
      assert(false, "terms never fall along the log", { index: entry.index, term: entry.term, before: previous.term });
    }
    previous = entry;
  }
}

/** Returns `next` if it must be written: a valid hard state that differs from the present one. */
export function changedHardState(present: HardState, next: HardState | undefined): HardState | undefined {
  if (next === undefined) return undefined;
  const sameVote = (next.vote ?? "") === (present.vote ?? "");
  if (next.term === present.term && sameVote && next.commit === present.commit) return undefined;
  assertCount(next.commit, "commit");
  assertCount(next.term, "term");
  assert(next.term >= present.term, "a node's term never falls", { term: next.term, before: present.term });
  assert((next.vote?.length ?? 0) <= limits.idCharacters, "a vote is a node id", { vote: next.vote });
  return next;
}
