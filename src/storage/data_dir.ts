import { dirname, resolve } from "node:path";
import { isId } from "../core/ids.js";
import { limits } from "../core/limits.js";
import type { Member, Membership } from "../core/types.js";
import { CairnError } from "../errors.js";
import { RESTORE_OR_REJOIN } from "./advice.js";
import { type FileSystem, readSmallFile, writeSmallFile } from "./fs.js";
import { DirectoryLock } from "./lock.js";

/** Version of the layout of a data directory. */
const FORMAT = 1;
const IDENTITY = "cairn.json";
const DATA = ["wal", "snapshots", "state"];

/** Whose data a directory holds. Written once, when it is made. */
export interface Identity {
  readonly format: number;
  readonly clusterId: string;
  readonly nodeId: string;
  /** The members that the cluster was created with. */
  readonly members: Membership;
  /** False while the directory is being made: it holds nothing yet that anyone was promised. */
  readonly complete: boolean;
}

/**
 * A node's data directory, locked:
 *
 *     cairn.json   whose data this is
 *     lock.<n>     who has it open
 *     wal/         the log
 *     snapshots/   snapshot files
 *     state/       the state machine's view, which snapshot and log can rebuild
 */
export class DataDirectory {
  private constructor(
    readonly fs: FileSystem,
    readonly path: string,
    private readonly lock: DirectoryLock,
    readonly identity: Identity,
  ) {}

  get log(): string {
    return `${this.path}/wal`;
  }

  get snapshots(): string {
    return `${this.path}/snapshots`;
  }

  get state(): string {
    return `${this.path}/state`;
  }

  /** For a state machine that is needed for a while only. Emptied at every start. */
  get scratch(): string {
    return `${this.path}/scratch`;
  }

  /**
   * Opens a directory, or makes it. A new one is complete only after {@link complete}.
   * @throws CairnError DATA_DIRECTORY when another process has it open, when it belongs to another node or cluster, when it was made by a
   * newer version, or when it holds data but not the file that says whose.
   */
  static async open(options: {
    fs: FileSystem;
    path: string;
    nodeId: string;
    /** Undefined: any cluster; a new directory gets `newClusterId`. */
    clusterId: string | undefined;
    newClusterId: () => string;
    members: Membership;
  }): Promise<DataDirectory> {
    const { fs, nodeId } = options;
    const path = resolve(options.path);
    await makeDirectoryDurably(fs, path);
    const lock = await DirectoryLock.acquire(fs, path);
    try {
      const found = await readIdentity(fs, path);
      if (found !== undefined) checkIdentity(path, found, options);
      // A directory that was never completed is made again from the start.
      if (found?.complete) return await DataDirectory.#opened(fs, path, lock, found);
      if (found === undefined) await refuseStrangeData(fs, path);
      // It may be there because of an attempt that ended before this.
      await fs.syncDirectory(dirname(path));
      const identity: Identity = {
        format: FORMAT,
        clusterId: options.clusterId ?? options.newClusterId(),
        nodeId,
        members: options.members,
        complete: false,
      };
      await writeIdentity(fs, path, identity);
      const directory = await DataDirectory.#opened(fs, path, lock, identity);
      for (const part of [directory.log, directory.snapshots, directory.state]) await fs.removeAll(part);
      await fs.makeDirectory(directory.log);
      await fs.makeDirectory(directory.snapshots);
      return directory;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  /**
   * Makes a directory around data that comes from elsewhere: `fill` puts it into the log and the snapshots. The file that says whose data this
   * is comes last, so that a directory which was not finished is nobody's, and {@link open} refuses it. Durable on return, and not locked.
   * @throws CairnError DATA_DIRECTORY when there is data; and what `fill` throws, then there is none
   */
  static async make(
    fs: FileSystem,
    at: string,
    identity: Pick<Identity, "clusterId" | "nodeId" | "members">,
    fill: (directory: DataDirectory) => Promise<void>,
  ): Promise<void> {
    const path = resolve(at);
    await makeDirectoryDurably(fs, path);
    const lock = await DirectoryLock.acquire(fs, path);
    try {
      const directory = new DataDirectory(fs, path, lock, { format: FORMAT, ...identity, complete: true });
      await refuseAnyData(fs, path);
      try {
        await fs.makeDirectory(directory.log);
        await fs.makeDirectory(directory.snapshots);
        await fill(directory);
      } catch (error) {
        for (const part of [directory.log, directory.snapshots]) await fs.removeAll(part);
        throw error;
      }
      await fs.syncDirectory(path);
      await writeIdentity(fs, path, directory.identity);
    } finally {
      await lock.release();
    }
  }

  /** Whose data a directory holds, without opening it; undefined while nobody's. @throws CairnError DATA_DIRECTORY when it is damaged */
  static async identityAt(fs: FileSystem, path: string): Promise<Identity | undefined> {
    const identity = await readIdentity(fs, resolve(path));
    return identity?.complete ? identity : undefined;
  }

  /** A new directory is ready for use. Durable on return. */
  async complete(): Promise<DataDirectory> {
    const identity = { ...this.identity, complete: true };
    await writeIdentity(this.fs, this.path, identity);
    return new DataDirectory(this.fs, this.path, this.lock, identity);
  }

  /** Lets other processes open it. */
  async close(): Promise<void> {
    await this.lock.release();
  }

  /** Leaves the directory as a crash would. */
  crash(): void {
    this.lock.abandon();
  }

  static async #opened(fs: FileSystem, path: string, lock: DirectoryLock, identity: Identity): Promise<DataDirectory> {
    const directory = new DataDirectory(fs, path, lock, identity);
    await fs.removeAll(directory.scratch);
    return directory;
  }
}

/** Checks the name of a node or cluster. @throws CairnError INVALID_ARGUMENT */
export function checkId(id: string, what: string): void {
  if (isId(id)) return;
  const shown = JSON.stringify(id.slice(0, 2 * limits.idCharacters));
  throw new CairnError(
    "INVALID_ARGUMENT",
    `${what} ${shown} must be 1 to ${limits.idCharacters} characters (idCharacters) of A-Z a-z 0-9 . _ -`,
  );
}

/**
 * Checks the members of a cluster, and puts them in order: everywhere else they are ordered by id.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkMembers(members: Membership): Membership {
  for (const { id } of members) checkId(id, "member id");
  const ordered = [...members].sort((a, b) => (a.id < b.id ? -1 : 1));
  const twice = ordered.find((member, at) => member.id === ordered[at - 1]?.id);
  if (twice !== undefined) throw new CairnError("INVALID_ARGUMENT", `member ${twice.id} is listed twice`);
  if (!members.some((member) => member.role === "voter")) {
    throw new CairnError("INVALID_ARGUMENT", "the members have no voter among them: at least one is needed");
  }
  return ordered;
}

/** So that a power failure does not take the directory away with what it holds. */
async function makeDirectoryDurably(fs: FileSystem, path: string): Promise<void> {
  const missing: string[] = [];
  for (let at = path; !(await fs.exists(at)); at = dirname(at)) missing.push(at);
  try {
    await fs.makeDirectory(path);
  } catch (error) {
    if (error instanceof CairnError) throw error;
    const text = `data directory ${path} cannot be made: ${(error as Error).message}. Give one that this user may write in.`;
    throw new CairnError("DATA_DIRECTORY", text, { cause: error });
  }
  for (const made of missing.toReversed()) await fs.syncDirectory(dirname(made));
}

async function readIdentity(fs: FileSystem, path: string): Promise<Identity | undefined> {
  const file = `${path}/${IDENTITY}`;
  if (!(await fs.exists(file))) return undefined;
  try {
    const found: unknown = JSON.parse((await readSmallFile(fs, file)).toString());
    if (isOfAnotherFormat(found) || isIdentity(found)) return found;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new CairnError("DATA_DIRECTORY", `${file} is damaged. ${RESTORE_OR_REJOIN}`);
}

/** Of which nothing but the format is known. */
function isOfAnotherFormat(found: unknown): found is Identity {
  const { format } = (found ?? {}) as Partial<Identity>;
  return typeof format === "number" && format !== FORMAT;
}

function isIdentity(found: unknown): found is Identity {
  const { format, clusterId, nodeId, members, complete } = (found ?? {}) as Partial<Identity>;
  const hasFields = format === FORMAT && typeof clusterId === "string" && typeof nodeId === "string";
  return hasFields && typeof complete === "boolean" && Array.isArray(members) && members.every(isMember);
}

function isMember(found: unknown): found is Member {
  const { id, address, role } = (found ?? {}) as Partial<Member>;
  return typeof id === "string" && typeof address === "string" && (role === "voter" || role === "learner");
}

function checkIdentity(path: string, found: Identity, wanted: { nodeId: string; clusterId: string | undefined }): void {
  const file = `${path}/${IDENTITY}`;
  if (found.format !== FORMAT) {
    const text = `${file} has format ${found.format}, this version of Cairn knows format ${FORMAT}`;
    throw new CairnError("DATA_DIRECTORY", `${text}. Use the version that wrote it.`);
  }
  if (found.nodeId !== wanted.nodeId) {
    const text = `data directory ${path} belongs to node ${found.nodeId}, not to ${wanted.nodeId}`;
    throw new CairnError("DATA_DIRECTORY", `${text}. Give that id, or another directory.`);
  }
  if (wanted.clusterId !== undefined && found.clusterId !== wanted.clusterId) {
    const text = `data directory ${path} belongs to cluster ${found.clusterId}, not to ${wanted.clusterId}`;
    throw new CairnError("DATA_DIRECTORY", `${text}. Give that cluster id, or another directory.`);
  }
}

async function refuseStrangeData(fs: FileSystem, path: string): Promise<void> {
  const strange = (await fs.list(path)).filter((name) => DATA.includes(name));
  if (strange.length === 0) return;
  throw new CairnError(
    "DATA_DIRECTORY",
    `data directory ${path} holds ${strange.join(", ")} but no ${IDENTITY}, so it is not known whose data this is. ` +
      `Restore ${IDENTITY} from a copy, or give an empty directory.`,
  );
}

async function refuseAnyData(fs: FileSystem, path: string): Promise<void> {
  const found = (await fs.list(path)).filter((name) => [IDENTITY, ...DATA].includes(name));
  if (found.length === 0) return;
  const text = `data directory ${path} holds ${found.join(", ")}: nothing is written over data`;
  throw new CairnError("DATA_DIRECTORY", `${text}. Give another directory, or move what is there away.`);
}

async function writeIdentity(fs: FileSystem, path: string, identity: Identity): Promise<void> {
  await writeSmallFile(fs, path, IDENTITY, Buffer.from(`${JSON.stringify(identity, undefined, 2)}\n`));
}
