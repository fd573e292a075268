import { assert } from "../../../src/base/assert.js";
import type { Entry } from "../../../src/raft/types.js";
import type { ScenarioNode } from "./node.js";
import { entryText } from "./words.js";

/** What must hold in any scenario, whatever its trace says: a wrong trace must not be recorded as the expected one. */
export class Checks {
  readonly #leaders = new Map<number, string>();
  readonly #applied = new Map<number, string>();

  /** State machine safety (Raft figure 3). */
  applied(id: string, entries: readonly Entry[]): void {
    for (const entry of entries) {
      const text = entryText(entry);
      const before = this.#applied.get(entry.index) ?? text;
      assert(before === text, "all apply the same entry at an index", { id, before, now: text });
      this.#applied.set(entry.index, text);
    }
  }

  check(nodes: readonly ScenarioNode[]): void {
    for (const node of nodes) {
      this.#checkLog(node);
      if (node.raft.role === "leader") this.#checkLeader(node, nodes);
    }
  }

  #checkLog({ id, raft, disk }: ScenarioNode): void {
    const { boundary, last, commit, persisted } = raft.log;
    const facts = { id, boundary: boundary.index, commit, persisted, last: last.index, disk: disk.last.index };
    assert(boundary.index <= commit && commit <= last.index && persisted <= last.index, "the log is in order", facts);
    const isOnDisk = raft.isInstalling || persisted <= disk.last.index;
    assert(isOnDisk, "what the core takes for durable is on disk", facts);
  }

  /** Election safety (Raft figure 3); and no leader believes of a member what its disk does not hold. */
  #checkLeader({ id, raft }: ScenarioNode, nodes: readonly ScenarioNode[]): void {
    const other = this.#leaders.get(raft.term) ?? id;
    assert(other === id, "a term has one leader", { term: raft.term, one: other, other: id });
    this.#leaders.set(raft.term, id);
    for (const { id: peer, match } of raft.progress) {
      const disk = nodes.find((node) => node.id === peer)?.disk;
      if (disk === undefined || disk.hardState.term > raft.term) continue;
      const [here, there] = [raft.log.termAt(match), disk.termAt(match)];
      const facts = { leader: id, peer, match, here, there, diskEnd: disk.last.index };
      assert(match <= disk.last.index, "a member has on disk what its leader believes", facts);
      assert(here === undefined || there === undefined || here === there, "their logs agree up to match", facts);
    }
  }
}
