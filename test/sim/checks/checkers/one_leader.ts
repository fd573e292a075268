import { type Checker, demand, type Observed } from "./checker.js";

/** Election safety (Raft figure 3): at most one leader in a term, ever. */
export class OneLeader implements Checker {
  readonly #leaders = new Map<number, string>();

  touched({ id, cairn }: Observed): void {
    const { role, term } = cairn.raft;
    if (role !== "leader") return;
    const known = this.#leaders.get(term);
    if (known === undefined) this.#leaders.set(term, id);
    else demand(known === id, "a term has one leader", { term, leaders: [known, id] });
  }

  /** Terms that had a leader. */
  get terms(): number {
    return this.#leaders.size;
  }
}
