import { nameOf } from "../../../src/base/ids.js";
import { majority } from "../../../src/raft/membership/quorum.js";
import type { IndexedMembership, LogPosition, Membership } from "../../../src/raft/types.js";
import { demand } from "../checks/checkers/checker.js";
import { votersOf } from "../checks/voters.js";
import { getOrAdd } from "./maps.js";
import type { RunningNode } from "./node.js";

/** What a directory had before the simulator took a part of it away. */
export interface Taken {
  readonly term: number;
  readonly last: LogPosition;
}

/** A data directory that there is or was, by its member key: what the simulator has done to it, and how far it ever was. */
export interface Directory {
  readonly key: string;
  readonly name: string;
  /** Empty as long as it belonged to no cluster. */
  clusterId: string;
  /** It knows a membership. */
  hasEntries: boolean;
  /** Wiped, or replaced by its own node because it had lost data. */
  isGone: boolean;
  /** The simulator took a part of it away, and it has not got that back. */
  taken: Taken | undefined;
  /** Memberships that its log holds, as far as a majority of them is needed. */
  memberships: readonly IndexedMembership[];
}

/** All directories of a run. What is here no node knows. */
export class Directories {
  readonly #known = new Map<string, Directory>();
  /** Newest membership of each cluster that is known to be committed. */
  readonly #committed = new Map<string, IndexedMembership>();
  /** Clusters of which a majority of the voters' directories is gone. */
  readonly #doomed = new Set<string>();

  of(key: string): Directory {
    return getOrAdd(this.#known, key, () => ({
      key,
      name: nameOf(key),
      clusterId: "",
      hasEntries: false,
      isGone: false,
      taken: undefined,
      memberships: [],
    }));
  }

  get all(): Iterable<Directory> {
    return this.#known.values();
  }

  /** T2: a directory that belongs to a cluster belongs to no other one, under that name. */
  started(key: string, clusterId: string): Directory {
    const directory = this.of(key);
    const before = directory.clusterId;
    // One that was rolled back may not know that it has turned.
    const isSame = before === "" || before === clusterId || directory.taken !== undefined;
    demand(isSame, "T2: an incarnation belongs to one cluster", { key, before, clusterId });
    if (clusterId !== "") directory.clusterId = clusterId;
    return directory;
  }

  /** A node was looked at. */
  observed(directory: Directory, { raft, isNew, clusterId }: RunningNode): void {
    directory.hasEntries = !isNew;
    const { membership, log } = raft;
    const committed = raft.membershipAt(log.commit);
    const [first, last] = [directory.memberships[0], directory.memberships.at(-1)];
    if (first?.index !== committed.index || last?.index !== membership.index) {
      directory.memberships = committed.index === membership.index ? [membership] : [committed, membership];
    }
    const newest = this.#committed.get(clusterId);
    if (committed.index > (newest?.index ?? 0)) this.#committed.set(clusterId, committed);
    if (directory.taken !== undefined && hasAgain(directory.taken, raft)) directory.taken = undefined;
  }

  committedMembership(clusterId: string): IndexedMembership | undefined {
    return this.#committed.get(clusterId);
  }

  /** All of it is gone. */
  gone(key: string): void {
    this.of(key).isGone = true;
    this.#look();
  }

  /** A part of it is gone. */
  take(key: string, taken: Taken): void {
    const directory = this.of(key);
    const before = directory.taken;
    directory.taken = before !== undefined && !isBefore(before, taken) ? before : taken;
    this.#look();
  }

  isDoomed(clusterId: string): boolean {
    return this.#doomed.has(clusterId);
  }

  /** Whether a cluster could go on if this directory were gone, too: of every membership that any of its directories knows. */
  canSpare(key: string, isWhole: (key: string) => boolean, clusterId = this.of(key).clusterId): boolean {
    for (const { clusterId: id, isGone, memberships } of this.#known.values()) {
      if (isGone || id !== clusterId) continue;
      const isEnough = ({ members }: { members: Membership }) =>
        hasMajority(members, (voter) => voter !== key && this.isWhole(voter) && isWhole(voter));
      if (!memberships.every((each) => each.members.length === 0 || isEnough(each))) return false;
    }
    return true;
  }

  isWhole(key: string): boolean {
    const { isGone, taken } = this.of(key);
    return !isGone && taken === undefined;
  }

  #look(): void {
    for (const [clusterId, { members }] of this.#committed) {
      if (!hasMajority(members, (voter) => this.isWhole(voter))) this.#doomed.add(clusterId);
    }
  }
}

function hasMajority(members: Membership, isThere: (key: string) => boolean): boolean {
  const voters = votersOf(members);
  return voters.filter(isThere).length >= majority(voters.length);
}

/** In a later term, with a log that is not behind: a leader of that term has given it what was committed. */
function hasAgain({ term, last }: Taken, { term: present, log }: RunningNode["raft"]): boolean {
  // Only what is durable comes through a crash.
  return present > term && (log.termAt(log.persisted) ?? 0) > last.term;
}

function isBefore(a: Taken, b: Taken): boolean {
  return (
    a.term <= b.term && (a.last.term < b.last.term || (a.last.term === b.last.term && a.last.index <= b.last.index))
  );
}
