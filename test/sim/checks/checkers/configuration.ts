import { membershipCodec } from "../../../../src/encoding/membership.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";
import type { CommittedLog } from "./committed_log.js";
import type { Reference } from "./reference.js";

/** The membership in force at a node is the last one in its log, committed or not; else its snapshot's (Raft section 6, R10). */
export class Configuration implements Checker {
  readonly #looked = new Map<SimNode, string>();

  constructor(
    private readonly committed: CommittedLog,
    private readonly reference: Reference,
  ) {}

  ended(place: SimNode): void {
    this.#looked.delete(place);
  }

  touched({ place, id, cairn }: Observed): void {
    const { log, membership } = cairn.raft;
    const { last, commit } = log;
    const key = `${last.index}/${last.term}/${membership.index}`;
    if (key === this.#looked.get(place)) return;
    this.#looked.set(place, key);
    const wanted = this.#inForce(cairn.raft, Math.min(commit, this.committed.last));
    if (wanted === undefined) return;
    const isSame =
      wanted.index === membership.index && JSON.stringify(wanted.members) === JSON.stringify(membership.members);
    demand(isSame, "the membership in force is the last one in the log", {
      node: id,
      last,
      commit,
      wanted,
      membership,
    });
  }

  /** What the entries above the commit index say, or else the committed log. */
  #inForce({ log }: Observed["cairn"]["raft"], commit: number) {
    const entries = log.entriesFrom(commit + 1, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
    if (entries === undefined) return undefined;
    const above = entries.findLast(({ type }) => type === "configuration");
    if (above !== undefined) return { index: above.index, members: membershipCodec.decode(above.data) };
    return this.reference.knows(commit) ? this.reference.membershipAt(commit) : undefined;
  }
}
