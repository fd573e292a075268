import { randomUUID } from "node:crypto";
import { CairnError } from "../base/errors.js";
import { founderOf, type NamedAddress, type Turn } from "../raft/membership/introduction.js";
import type { CameBy } from "../raft/membership/membership_change.js";
import type { Member, Membership } from "../raft/types.js";
import { DataDirectory } from "../storage/data_dir.js";
import { drawIncarnation, drawnIdentity, givenIdentity, type Identity, writeIdentity } from "../storage/identity.js";
import type { LockOptions } from "../storage/lock.js";
import type { FileSystem } from "../system/fs.js";

// Changes of a data directory while no node has it open. Each change is durable on return, all or
// nothing.

/** Claims a directory for a member: its name, and its way into a cluster. */
export type Claim = {
  readonly name: string;
  /** The founders that `--cluster` names; undefined without `--cluster`. */
  readonly founders: readonly NamedAddress[] | undefined;
} & (
  | {
      readonly cameBy: CameBy;
      /**
       * The only founder of a new directory, if neither founders nor a cluster to join are given.
       */
      readonly alone: Membership;
      /** The cluster that the directory must belong to already. */
      readonly clusterId?: string | undefined;
    }
  /**
   * A given identity, which the caller must keep unique: it has a membership from its beginning.
   */
  | { readonly given: { readonly clusterId: string | undefined; readonly members: Membership } }
);

/**
 * Gives a new directory an identity, and returns the directory's identity. A directory that has an
 * owner stays as it is. This may wait for the directory's lock; see {@link DirectoryLock.acquire}.
 * @throws CairnError DATA_DIRECTORY when it belongs to another node or cluster; INVALID_ARGUMENT
 * when a cluster id is given for a new directory; FAILED_PRECONDITION when it has lost data, and
 * that is left to an operator
 */
export async function claimDirectory(
  fs: FileSystem,
  directory: string,
  claim: Claim,
  replacesLostData: boolean,
  options: LockOptions = {},
): Promise<Identity> {
  const change = async (found: Identity | undefined, path: string) => {
    if (found === undefined) return newIdentity(claim);
    checkOwner(directory, found, claim);
    if (!found.retired) return undefined;
    if (!replacesLostData) throw mustNotReplace("this directory has less than its node acknowledged");
    await DataDirectory.setAside(fs, path, found.incarnation);
    return successor(found);
  };
  const identity = await DataDirectory.identify(fs, directory, change, options);
  return identity!;
}

/** Returns the error that leaves a directory with lost data to an operator, as it is. */
export function mustNotReplace(text: string): CairnError {
  const advice =
    "lostDisk (--lost-disk on the command line) is set to refuse. With rejoin, the node comes back as a new member.";
  return new CairnError("FAILED_PRECONDITION", `${text}: ${advice}`);
}

function newIdentity(claim: Claim): Identity {
  const { name } = claim;
  if ("given" in claim) {
    const { clusterId = randomUUID(), members } = claim.given;
    return givenIdentity({ nodeId: name, clusterId, members });
  }
  if (claim.clusterId !== undefined) {
    const text = `the cluster id ${claim.clusterId} (--cluster-id on the command line) is given, but the data directory is new`;
    throw new CairnError("INVALID_ARGUMENT", `${text}: a cluster's id is drawn when it is founded. Leave it out.`);
  }
  const members = claim.cameBy === "join" ? [] : foundersOf(claim);
  const incarnation = drawIncarnation();
  // A founder's cluster is named after it from the beginning.
  const isFounder = founderOf(members.map(({ id, address }) => ({ name: id, address }))) === name;
  return drawnIdentity({
    nodeId: name,
    cameBy: claim.cameBy,
    members,
    incarnation,
    clusterId: isFounder ? incarnation : "",
  });
}

function foundersOf(claim: Claim & { alone: Membership }): Membership {
  if (claim.founders === undefined) return claim.alone;
  const members = claim.founders.map(({ name, address }): Member => ({ id: name, address, role: "voter" }));
  return members.sort((a, b) => (a.id < b.id ? -1 : 1));
}

function checkOwner(directory: string, found: Identity, claim: Claim): void {
  if (found.nodeId !== claim.name) {
    const text = `data directory ${directory} belongs to node ${found.nodeId}, not to ${claim.name}`;
    throw new CairnError("DATA_DIRECTORY", `${text}. Give that id, or another directory.`);
  }
  const clusterId = "given" in claim ? claim.given.clusterId : claim.clusterId;
  // The id that manual elections derive from --cluster is for a new directory.
  const isWanted = "given" in claim && claim.founders !== undefined ? undefined : clusterId;
  if (isWanted !== undefined && found.clusterId !== isWanted) {
    const text = `data directory ${directory} belongs to cluster ${found.clusterId}, not to ${isWanted}`;
    throw new CairnError("DATA_DIRECTORY", `${text}. Give that cluster id, or another directory.`);
  }
}

/**
 * Corrects the way in which a directory that is still new comes to its cluster, after a start with
 * other options: a mistake in an earlier command line can be repaired. No node may have the
 * directory open.
 */
export async function restateDirectory(fs: FileSystem, directory: string, claim: Claim): Promise<void> {
  await DataDirectory.identify(fs, directory, async (found) => restatedIdentity(found!, claim));
}

/**
 * Returns whether the claim gives a new directory another way to its cluster than its identity
 * does.
 */
export function isRestated(found: Identity, claim: Claim): boolean {
  return restatedIdentity(found, claim) !== undefined;
}

function restatedIdentity(found: Identity, claim: Claim): Identity | undefined {
  // A directory that replaces one with lost data founds nothing, whatever its options are (T3).
  if ("given" in claim || found.cameBy === "given" || found.cameBy === "return") return undefined;
  if (claim.cameBy === "join") return found.cameBy === "join" ? undefined : { ...found, cameBy: "join", members: [] };
  if (claim.founders === undefined) return undefined;
  const members = foundersOf(claim);
  const isSame = found.cameBy === "cluster" && listOf(found.members) === listOf(members);
  return isSame ? undefined : { ...found, cameBy: "cluster", members };
}

function listOf(members: Membership): string {
  return members
    .map(({ id, address }) => `${id}=${address}`)
    .sort()
    .join(",");
}

/**
 * Checks the founders of a node that is no longer new: `--cluster` says who founds a cluster, not
 * who its members are.
 * @throws CairnError DATA_DIRECTORY
 */
export function checkFounders(directory: string, found: Identity, founders: readonly NamedAddress[] | undefined): void {
  if (founders === undefined || (found.cameBy !== "cluster" && found.cameBy !== "given")) return;
  const was = listOf(found.members);
  const is = listOf(founders.map(({ name, address }) => ({ id: name, address, role: "voter" })));
  if (was === is) return;
  const text = `${directory} holds data of a cluster that was created with ${was}, not with ${is}`;
  const advice =
    "The founders (cluster, or --cluster on the command line) only create a cluster: leave them out, or give that list. To change members, use 'cairn member'.";
  throw new CairnError("DATA_DIRECTORY", `${text}. ${advice}`);
}

/**
 * Turns a directory that knows no membership to a cluster (T2). Returns its new identity. What it
 * has received of another cluster's snapshot goes.
 */
export async function turnDirectory(fs: FileSystem, directory: string, turn: Turn): Promise<Identity> {
  const identity = await DataDirectory.identify(fs, directory, async (found, path) => {
    await DataDirectory.removeReceivedParts(fs, path);
    const incarnation = turn.isRenewed ? drawIncarnation() : found!.incarnation;
    return { ...found!, incarnation, clusterId: turn.clusterId === "" ? incarnation : turn.clusterId, base: turn.base };
  });
  return identity!;
}

/**
 * Sets aside a directory that has less than it acknowledged, undeleted, and puts a new one in its
 * place, under another incarnation (T3). The new one asks `contacts` about its cluster. Returns the
 * path of the old data. {@link claimDirectory} finishes this after a crash in between.
 */
export async function replaceDirectory(fs: FileSystem, directory: string, contacts: Membership): Promise<string> {
  let aside = "";
  await DataDirectory.identify(fs, directory, async (found, path) => {
    const members = contacts.map(({ id, address }): Member => ({ id, address, role: "voter" }));
    const retired = { ...found!, members, retired: true };
    if (!found!.retired) await writeIdentity(fs, path, retired);
    aside = await DataDirectory.setAside(fs, path, found!.incarnation);
    return successor(retired);
  });
  return aside;
}

/**
 * Returns the identity of a directory that replaces one with lost data: it founds nothing, and
 * belongs to the same cluster.
 */
function successor({ nodeId, clusterId, members, base }: Identity): Identity {
  return drawnIdentity({ nodeId, cameBy: "return", members, clusterId, base });
}
