import { nameOf } from "../../../../src/base/ids.js";
import type { MemberEvent } from "../../../../src/daemon/events.js";
import { majority } from "../../../../src/raft/membership/quorum.js";
import type { Membership } from "../../../../src/raft/types.js";
import { votersOf } from "../../checks/voters.js";
import type { SimCluster } from "../../world/cluster.js";
import type { SimNode } from "../../world/node.js";

/** How often it looks around, in milliseconds. */
const LOOK_MS = 700;

/**
 * Somebody who sees to machines whose directories draw their own identity: gives those an empty disk that cannot go on with theirs, and knows what
 * may be lost.
 */
export class Caretaker {
  readonly #removed = new Set<SimNode>();
  #isOver = false;

  constructor(private readonly cluster: SimCluster) {}

  start(): void {
    const next = () => this.cluster.scheduler.after(LOOK_MS, undefined, "the caretaker looks around", look);
    const look = () => {
      if (this.#isOver) return;
      for (const node of this.cluster.nodes) if (node.state === "down" || this.#removed.has(node)) this.#see(node);
      next();
    };
    next();
  }

  told(node: SimNode, event: MemberEvent): void {
    if (event.kind === "removed") this.#removed.add(node);
  }

  /** Whether a directory may be lost: its cluster goes on, and another founder can say that there is one. */
  maySpare(node: SimNode): boolean {
    const { cluster } = this;
    if (node.damage !== undefined || node.isGone) return false;
    return this.#isKnownElsewhere(node) && cluster.directories.canSpare(node.key, (key) => !this.#isDamaged(key));
  }

  /** Whether an operator may take away a member: of the others, a majority has its data. */
  mayRemove(id: string, members: Membership): boolean {
    const voters = votersOf(members.filter((member) => member.id !== id));
    const whole = voters.filter((key) => this.cluster.directories.isWhole(key) && !this.#isDamaged(key));
    return whole.length >= majority(voters.length);
  }

  /** The disk is lost, and there is an empty one in its place. */
  wipe(node: SimNode): void {
    this.cluster.note(`the disk of ${node.id} is wiped`);
    this.#removed.delete(node);
    node.wipe();
  }

  /** A machine that is no member is to become one. */
  add(node: SimNode): void {
    if (node.state !== "down" || node.key !== node.id) this.wipe(node);
    node.comesBy = "join";
    node.isTurnedAway = false;
    node.start();
  }

  /** Whether a machine may be made a new one. */
  isSpare(node: SimNode): boolean {
    return !this.#isMember(node.id) && this.#isKnownElsewhere(node);
  }

  /** The troubles are over: whatever is broken is made whole, and a cluster that is lost is founded anew. */
  heal(): void {
    const { cluster } = this;
    const { main } = cluster;
    const damaged = cluster.nodes.filter(({ damage }) => damage !== undefined).map(({ key }) => key);
    if (main === undefined ? this.#hasLostFounding() : this.#isBeyondHelp(main, damaged)) {
      cluster.count("a cluster that is founded anew in the end");
      for (const node of cluster.nodes) this.wipe(node);
      for (const node of cluster.nodes) {
        node.comesBy = "list";
        node.isTurnedAway = !cluster.founders.some(({ id }) => id === node.id);
      }
      cluster.main = undefined;
      cluster.removals.clear();
      return;
    }
    for (const node of cluster.nodes) if (node.damage !== undefined) this.#see(node);
  }

  end(): void {
    this.#isOver = true;
  }

  /** Founders have lost what they had of a cluster that never had a leader who could answer: those that are left may wait for it for ever. */
  #hasLostFounding(): boolean {
    return [...this.cluster.directories.all].some(
      ({ hasEntries, isGone, taken }) => taken !== undefined || hasEntries || isGone,
    );
  }

  #isBeyondHelp(clusterId: string, damaged: readonly string[]): boolean {
    const { directories, checks } = this.cluster;
    if (checks.isExcused(clusterId) || directories.isDoomed(clusterId)) return true;
    return !directories.canSpare("", (key) => !damaged.includes(key), clusterId);
  }

  /** Gives a machine an empty disk that cannot go on, when its name is a member's. */
  #see(node: SimNode): void {
    const isStuck = node.damage !== undefined || node.isTurnedAway || this.#removed.has(node);
    if (!isStuck || !this.#isMember(node.id) || !this.#isKnownElsewhere(node)) return;
    this.cluster.count("a machine gets an empty disk");
    this.wipe(node);
    node.start();
  }

  #isMember(id: string): boolean {
    const { main, directories, founders } = this.cluster;
    const members = main === undefined ? founders : (directories.committedMembership(main)?.members ?? []);
    return members.some((member) => member.id === id);
  }

  /** T1 assumes of founders that one of them knows of the cluster, if it lives. */
  #isKnownElsewhere(node: SimNode): boolean {
    const { directories, founders, main } = this.cluster;
    const { hasEntries, clusterId } = directories.of(node.key);
    if (!hasEntries || clusterId !== main) return true;
    return founders.some(({ id }) => {
      const other = this.cluster.node(id)!;
      const directory = directories.of(other.key);
      const knows = directory.hasEntries && directory.clusterId === main && directories.isWhole(other.key);
      return other !== node && knows && other.damage === undefined;
    });
  }

  #isDamaged(key: string): boolean {
    const place = this.cluster.node(nameOf(key));
    return place?.key === key && place.damage !== undefined;
  }
}
