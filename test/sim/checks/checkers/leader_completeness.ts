import { type Checker, demand, type Observed } from "./checker.js";
import type { CommittedLog } from "./committed_log.js";

/** Leader completeness (Raft figure 3): whoever leads has all that was committed in earlier terms. (A node that was frozen may begin to lead late.) */
export class LeaderCompleteness implements Checker {
  readonly #looked = new Set<number>();

  constructor(private readonly committed: CommittedLog) {}

  touched({ id, cairn }: Observed): void {
    const { role, term, log } = cairn.raft;
    if (role !== "leader" || this.#looked.has(term)) return;
    this.#looked.add(term);
    const { committed } = this;
    const before = committed.lastBefore(term);
    demand(log.last.index >= before, "a leader has all that was committed", {
      leader: id,
      term,
      last: log.last.index,
      committed: before,
    });
    for (let index = log.boundary.index; index <= before; index++) {
      demand(log.termAt(index) === committed.termAt(index), "a leader has all that was committed", {
        leader: id,
        term,
        index,
        has: log.termAt(index),
        committed: committed.termAt(index),
      });
    }
  }
}
