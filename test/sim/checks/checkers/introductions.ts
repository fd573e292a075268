import { memberKey } from "../../../../src/base/ids.js";
import type { Introduced, Introduction } from "../../../../src/raft/membership/introduction.js";
import type { Membership } from "../../../../src/raft/types.js";
import type { Directories } from "../../world/directories.js";
import type { RunningNode, SimNode } from "../../world/node.js";
import { demand } from "./checker.js";

interface FoundIdentity {
  readonly incarnation: string;
  readonly clusterId: string;
}

/** T1: what a node says about itself stays true, and a promise to a founder is durable, for one founder, the last that has asked. */
export class Introductions {
  /** By incarnation: the cluster that it has promised to take part in. */
  readonly #promises = new Map<string, string>();
  /** Those that have said that they are members. */
  readonly #members = new Set<string>();
  /** By place and life: the founder that was answered last. */
  readonly #founders = new Map<string, string>();

  constructor(private readonly directories: Directories) {}

  /** A node has answered an introduction. */
  introduced(place: SimNode, node: RunningNode, asked: Introduction, { incarnation, standing }: Introduced): void {
    const facts = { node: place.id, was: node.incarnation, incarnation, founder: asked.founder };
    const life = `${place.id}/${place.life}`;
    if (asked.founder !== "" && !asked.askPromise && standing.kind === "new") this.#founders.set(life, asked.founder);
    if (standing.kind === "member") this.#members.add(node.incarnation);
    if (standing.kind !== "new" || !standing.promised) return;
    const isWhole = this.directories.of(memberKey(node)).taken === undefined;
    const isEmpty = node.isNew && !(isWhole && this.#members.has(node.incarnation));
    demand(isEmpty, "T1: a node that knows a membership promises nothing", facts);
    demand(this.#founders.get(life) === asked.founder, "T1: a promise is for the founder that has asked last", {
      ...facts,
      last: this.#founders.get(life),
    });
    const promised = this.#promises.get(incarnation);
    // One that was put back from an older copy does not know what it has promised.
    demand(
      !isWhole || promised === undefined || promised === asked.founder,
      "T1: an incarnation promises itself once",
      {
        ...facts,
        promised,
      },
    );
    this.#promises.set(incarnation, asked.founder);
    const { clusterId, incarnation: present } = place.disk.durableIdentity<FoundIdentity>() ?? {};
    const isDurable = clusterId === asked.founder && present === incarnation;
    demand(isDurable, "T1: a promise is durable before it is given", { ...facts, onDisk: [present, clusterId] });
  }

  /** A node founds a cluster. */
  founded(clusterId: string, members: Membership): void {
    const unheard = members.filter(({ incarnation = "" }) => {
      return incarnation !== clusterId && this.#promises.get(incarnation) !== clusterId;
    });
    demand(unheard.length === 0, "T1: a cluster is founded when all founders have promised", { clusterId, unheard });
  }
}
