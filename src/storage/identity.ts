import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { type CounterLimit, counterProblem } from "../base/counters.js";
import { CairnError } from "../base/errors.js";
import { isId, isIncarnation } from "../base/ids.js";
import type { Base } from "../raft/membership/introduction.js";
import type { CameBy } from "../raft/membership/membership_change.js";
import type { Member, Membership } from "../raft/types.js";
import { type FileSystem, readSmallFile, writeSmallFile } from "../system/fs.js";
import { DAMAGED_MEMBER } from "./advice.js";

// Reads and writes the identity file of a data directory.

/** File in a data directory that names the owner of the data. */
export const IDENTITY_FILE = "cairn.json";

/** Version of a data directory's layout. Format 1 had only given identities, and no checksum. */
const FORMAT = 2;
const FORMAT_WITHOUT_CHECKSUM = 1;

/**
 * Identity of a data directory: the node, the cluster and the incarnation that its data belongs to
 * (T1, T2). `given`: the operator keeps the identity unique, and `members` is the membership that
 * the log starts with. Otherwise the directory has drawn an incarnation, and no membership is in
 * force before one is in the log or in a snapshot.
 */
export interface Identity {
  readonly format: number;
  /** The node's name. */
  readonly nodeId: string;
  /** Random name of this directory, in hexadecimal digits; empty for a given identity. */
  readonly incarnation: string;
  /** Empty while the directory belongs to no cluster. */
  readonly clusterId: string;
  readonly cameBy: CameBy | "given" | "return";
  /**
   * given: the first membership. cluster: the founders. return: the members that were known when
   * the previous directory lost data (T3). join: none.
   */
  readonly members: Membership;
  readonly base: Base | undefined;
  /** The directory holds less than its node acknowledged (T3), and is about to be replaced. */
  readonly retired: boolean;
  /** False while the directory is being made: it holds nothing yet that anyone relies on. */
  readonly complete: boolean;
}

/** Draws the name of a new directory: 16 random bytes in hexadecimal digits. */
export function drawIncarnation(): string {
  return randomBytes(16).toString("hex");
}

/** Returns an identity that the operator gave. */
export function givenIdentity(options: {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly members: Membership;
}): Identity {
  const rest = { incarnation: "", cameBy: "given", base: undefined, retired: false, complete: false } as const;
  return { format: FORMAT, ...options, ...rest };
}

/** Returns the identity of a new directory, with a newly drawn incarnation unless one is passed. */
export function drawnIdentity(options: {
  readonly nodeId: string;
  readonly cameBy: CameBy | "return";
  readonly members: Membership;
  readonly incarnation?: string;
  readonly clusterId?: string;
  readonly base?: Base | undefined;
}): Identity {
  const { incarnation = drawIncarnation(), clusterId = "", base, ...rest } = options;
  return { format: FORMAT, ...rest, incarnation, clusterId, base, retired: false, complete: false };
}

/**
 * Reads the identity in a directory; undefined when there is no identity file.
 * @throws CairnError DATA_DIRECTORY when the file is damaged, or a newer version wrote it
 */
export async function readIdentity(fs: FileSystem, directory: string): Promise<Identity | undefined> {
  const file = `${directory}/${IDENTITY_FILE}`;
  if (!(await fs.exists(file))) return undefined;
  const found = parsed((await readSmallFile(fs, file)).toString());
  const format = found?.format;
  if (typeof format === "number" && format !== FORMAT && format !== FORMAT_WITHOUT_CHECKSUM) {
    const text = `${file} has format ${format}, this version of Cairn knows formats up to ${FORMAT}`;
    throw new CairnError("DATA_DIRECTORY", `${text}. Use the version that wrote it.`);
  }
  const identity = found === undefined ? undefined : identityOf(found);
  if (identity !== undefined) return identity;
  throw new CairnError("DATA_DIRECTORY", `${file} is damaged. ${DAMAGED_MEMBER}`);
}

/** Writes the identity in a directory. Durable on return, all or nothing. */
export async function writeIdentity(fs: FileSystem, directory: string, identity: Identity): Promise<void> {
  const fields = { ...identity, format: FORMAT };
  const text = JSON.stringify({ ...fields, crc32: checksumOf(fields) }, undefined, 2);
  await writeSmallFile(fs, directory, IDENTITY_FILE, Buffer.from(`${text}\n`));
}

/** Fields of an identity file before any of them is checked. */
type IdentityFields = { [Name in keyof Identity | "crc32"]?: unknown };

function parsed(text: string): IdentityFields | undefined {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" && found !== null ? (found as IdentityFields) : undefined;
  } catch {
    return undefined;
  }
}

function identityOf(found: IdentityFields): Identity | undefined {
  if (found.format === FORMAT_WITHOUT_CHECKSUM) return earlierIdentity(found);
  const { crc32: sum, ...fields } = found;
  return sum === checksumOf(fields) && isIdentity(fields) ? fields : undefined;
}

/**
 * Converts an identity of format 1, which is always a given one. One with a checksum is damaged: it
 * is of format 2, and would lose its incarnation here.
 */
function earlierIdentity(found: IdentityFields): Identity | undefined {
  const { nodeId, clusterId, members, complete, crc32: sum } = found;
  if (sum !== undefined) return undefined;
  if (typeof nodeId !== "string" || typeof clusterId !== "string" || !isMemberList(members)) return undefined;
  if (typeof complete !== "boolean") return undefined;
  return { ...givenIdentity({ nodeId, clusterId, members }), complete };
}

function isIdentity(found: IdentityFields): found is Identity {
  const { nodeId, incarnation, clusterId, cameBy, members, base, retired, complete } = found;
  return (
    typeof nodeId === "string" &&
    isId(nodeId) &&
    typeof incarnation === "string" &&
    isIncarnation(incarnation) &&
    typeof clusterId === "string" &&
    (cameBy === "given" || cameBy === "cluster" || cameBy === "join" || cameBy === "return") &&
    (cameBy === "given") === (incarnation === "") &&
    isMemberList(members) &&
    (base === undefined || isBase(base)) &&
    typeof retired === "boolean" &&
    typeof complete === "boolean"
  );
}

function isMemberList(found: unknown): found is Membership {
  return Array.isArray(found) && found.every(isMember);
}

function isMember(found: unknown): found is Member {
  const { id, address, role } = (found ?? {}) as Partial<Member>;
  return typeof id === "string" && typeof address === "string" && (role === "voter" || role === "learner");
}

function isBase(found: unknown): found is Base {
  const { index, term, sha256 } = (found ?? {}) as Partial<Base>;
  const isPosition = isCounter(index, "indexMax") && isCounter(term, "termMax");
  return isPosition && /^[0-9a-f]{64}$/.test(String(sha256));
}

function isCounter(value: unknown, limit: CounterLimit): boolean {
  return typeof value === "number" && counterProblem(value, limit) === undefined;
}

/** Computes a checksum that does not depend on the order of the fields in the file. */
function checksumOf(fields: object): string {
  const canonical = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1));
  return crc32(JSON.stringify(canonical)).toString(16).padStart(8, "0");
}
