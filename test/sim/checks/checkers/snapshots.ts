import { limits } from "../../../../src/base/limits.js";
import type { SnapshotInfo } from "../../../../src/storage/snapshots/snapshot_info.js";
import type { SimNode } from "../../world/node.js";
import { type Checker, demand, type Observed } from "./checker.js";
import type { Reference } from "./reference.js";

/**
 * Snapshots of one index are the same bytes on every node, and those that a replay of the log makes, membership included; and there are never
 * many of them.
 */
export class Snapshots implements Checker {
  /** By index. */
  readonly #known = new Map<number, string>();
  readonly #newest = new Map<SimNode, SnapshotInfo>();

  constructor(private readonly reference: Reference) {}

  get count(): number {
    return this.#known.size;
  }

  ended(place: SimNode): void {
    this.#newest.delete(place);
  }

  touched({ place, id, cairn }: Observed): Promise<void> | undefined {
    const list = cairn.snapshots.list();
    const newest = list[0];
    if (newest === undefined || newest === this.#newest.get(place)) return undefined;
    this.#newest.set(place, newest);
    // Those that were being sent when old ones went last stay, one for each other member at most; and the new one came before an old one goes.
    const most = limits.snapshotsKept + 1 + cairn.raft.membership.members.length;
    demand(list.length <= most, "few snapshots are kept", { node: id, indexes: list.map(({ index }) => index), most });
    return this.#compare(id, newest);
  }

  async #compare(id: string, info: SnapshotInfo): Promise<void> {
    const { index, term, membership } = info;
    const sha256 = Buffer.from(info.sha256).toString("hex");
    const known = this.#known.get(index);
    if (known !== undefined) {
      demand(sha256 === known, "snapshots of one index are the same everywhere", { node: id, index });
      return;
    }
    const wanted = await this.reference.snapshotAt(index);
    const facts = { node: id, index, term, membership: membership.index, wanted: wanted.meta };
    demand(term === wanted.meta.term, "a snapshot has the term of its last entry", facts);
    const isSame = JSON.stringify(membership) === JSON.stringify(wanted.meta.membership);
    demand(isSame, "a snapshot holds the membership in force at its index", { ...facts, members: membership.members });
    demand(sha256 === wanted.sha256, "a snapshot is that of a replay of the log", facts);
    this.#known.set(index, sha256);
  }
}
