import { dirname, join, resolve } from "node:path";
import { crc32 } from "node:zlib";
import { CairnError } from "../base/errors.js";
import { membersProblem } from "../raft/membership/membership_rules.js";
import type { LogPosition, Membership } from "../raft/types.js";
import { type FileSystem, readSmallFile, writeSmallFile } from "../system/fs.js";
import { DAMAGED_MEMBER } from "./advice.js";
import { givenIdentity, IDENTITY_FILE, type Identity, readIdentity, writeIdentity } from "./identity.js";
import { DirectoryLock, type LockOptions } from "./lock.js";
import { parseReceivedPartName } from "./snapshots/file_names.js";

// Opens a data directory, and protects it from other processes and from data of another node.

const DATA = ["wal", "snapshots", "state"];
/** File with the end of the log at a clean stop. It exists only while the node is stopped. */
const STOP_MARK = "stopped.json";
const STOP_MARK_TEXT = /^(\{"index":(\d+),"term":\d+\}) ([0-9a-f]{8})\n$/;

/**
 * Opens, locks and marks a node's data directory:
 *
 *     cairn.json   the node and the cluster that the data belongs to
 *     lock.<n>     the process that has it open
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

  /** Directory of a state machine that is needed only for a while. Emptied at every start. */
  get scratch(): string {
    return `${this.path}/scratch`;
  }

  /**
   * Opens a directory, or makes one. A new directory is complete only after {@link complete}.
   * @throws CairnError DATA_DIRECTORY when another process has it open, when it belongs to another
   * node or cluster, when a newer version made it, or when it holds data but no identity file.
   */
  static async open(options: {
    fs: FileSystem;
    path: string;
    nodeId: string;
    /** Undefined accepts any cluster; a new directory gets `newClusterId`. */
    clusterId: string | undefined;
    newClusterId: () => string;
    members: Membership;
    /** Receives a text when the start has to wait; see {@link DirectoryLock.acquire}. */
    say?: ((text: string) => void) | undefined;
  }): Promise<DataDirectory> {
    const { fs, nodeId, say } = options;
    const path = resolve(options.path);
    await makeDirectoryDurably(fs, path);
    const lock = await DirectoryLock.acquire(fs, path, { say });
    try {
      const found = await readIdentity(fs, path);
      if (found !== undefined) checkIdentity(path, found, options);
      if (found?.retired)
        throw new CairnError("DATA_DIRECTORY", `${path} has less than its node acknowledged. ${DAMAGED_MEMBER}`);
      // A directory that was never completed is made again from the start.
      if (found?.complete) return await DataDirectory.#opened(fs, path, lock, found);
      if (found === undefined) await refuseStrangeData(fs, path);
      // An earlier attempt may have made the directory, and ended before this sync.
      await fs.syncDirectory(dirname(path));
      const clusterId = options.clusterId ?? options.newClusterId();
      // A drawn identity is written before the node is opened, so the file has it already,
      // unfinished.
      const identity = found ?? givenIdentity({ nodeId, clusterId, members: options.members });
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
   * Makes a directory around data from elsewhere: `fill` puts the data into the log and the
   * snapshots, and returns the fields to add to the identity. The identity file comes last: an
   * unfinished directory belongs to nobody, and {@link open} refuses it. Durable on return, and not
   * locked.
   * @throws CairnError DATA_DIRECTORY when the directory holds data; and any error of `fill`, which
   * leaves no data behind
   */
  static async make(
    fs: FileSystem,
    at: string,
    identity: Identity,
    fill: (directory: DataDirectory) => Promise<Partial<Identity>>,
  ): Promise<void> {
    const path = resolve(at);
    await makeDirectoryDurably(fs, path);
    const lock = await DirectoryLock.acquire(fs, path);
    try {
      const directory = new DataDirectory(fs, path, lock, identity);
      await refuseAnyData(fs, path);
      let filled: Partial<Identity>;
      try {
        await fs.makeDirectory(directory.log);
        await fs.makeDirectory(directory.snapshots);
        filled = await fill(directory);
      } catch (error) {
        for (const part of [directory.log, directory.snapshots]) await fs.removeAll(part);
        throw error;
      }
      await fs.syncDirectory(path);
      await writeIdentity(fs, path, { ...identity, ...filled, complete: true });
    } finally {
      await lock.release();
    }
  }

  /**
   * Returns the identity in a directory without opening it; undefined while it belongs to nobody.
   * @throws CairnError DATA_DIRECTORY when the identity file is damaged
   */
  static identityAt(fs: FileSystem, path: string): Promise<Identity | undefined> {
    return readIdentity(fs, resolve(path));
  }

  /**
   * Changes the identity in a directory that no node has open. `change` gets the present identity,
   * undefined for a new directory, and returns the new one; undefined leaves it unchanged. Durable
   * on return, all or nothing.
   * @throws CairnError DATA_DIRECTORY when another process has the directory open, when it is
   * damaged, or when it holds data but no identity file
   */
  static async identify(
    fs: FileSystem,
    at: string,
    change: (found: Identity | undefined, path: string) => Promise<Identity | undefined>,
    options: LockOptions = {},
  ): Promise<Identity | undefined> {
    const path = resolve(at);
    await makeDirectoryDurably(fs, path);
    const lock = await DirectoryLock.acquire(fs, path, options);
    try {
      const found = await readIdentity(fs, path);
      if (found === undefined) await refuseStrangeData(fs, path);
      const changed = await change(found, path);
      if (changed !== undefined) await writeIdentity(fs, path, changed);
      // An earlier attempt may have made the directory, and ended before this sync.
      await fs.syncDirectory(dirname(path));
      return changed ?? found;
    } finally {
      await lock.release();
    }
  }

  /**
   * Marks the directory as holding less than its node acknowledged (T3), so that no later start
   * treats it as whole. `members`: the members to ask for the way back. Durable on return.
   */
  async retire(members: Membership): Promise<void> {
    const identity = { ...this.identity, retired: true };
    await writeIdentity(this.fs, this.path, identity.cameBy === "given" ? identity : { ...identity, members });
  }

  /**
   * Removes what transfers have left of snapshots. Call it within {@link identify}. Not durable by
   * itself.
   */
  static async removeReceivedParts(fs: FileSystem, path: string): Promise<void> {
    const snapshots = join(path, "snapshots");
    for (const name of await fs.list(snapshots)) {
      if (parseReceivedPartName(name) !== undefined) await fs.unlink(join(snapshots, name));
    }
  }

  /**
   * Moves all data of a directory into a new directory within it, undeleted, and returns its path.
   * Call it within {@link identify}. Durable on return.
   */
  static async setAside(fs: FileSystem, path: string, incarnation: string): Promise<string> {
    const names = await fs.list(path);
    const stem = `lost-${incarnation === "" ? "given" : incarnation.slice(0, 8)}`;
    let aside = stem;
    for (let n = 2; names.includes(aside) && (await hasData(fs, `${path}/${aside}`)); n++) aside = `${stem}-${n}`;
    await fs.makeDirectory(`${path}/${aside}`);
    // The stop mark goes with its log: the next log is shorter, and has lost nothing.
    for (const name of [...DATA, STOP_MARK].filter((each) => names.includes(each))) {
      await fs.rename(`${path}/${name}`, `${path}/${aside}/${name}`);
    }
    await fs.syncDirectory(`${path}/${aside}`);
    await fs.syncDirectory(path);
    return `${path}/${aside}`;
  }

  /** Marks a new directory as ready for use. Durable on return. */
  async complete(): Promise<DataDirectory> {
    const identity = { ...this.identity, complete: true };
    await writeIdentity(this.fs, this.path, identity);
    return new DataDirectory(this.fs, this.path, this.lock, identity);
  }

  /**
   * Notes that the node stops cleanly with the log's end at this position: a log that ends before
   * it at the next start has lost data (T3). Durable on return.
   */
  async markStopped({ index, term }: LogPosition): Promise<void> {
    const text = JSON.stringify({ index, term });
    await writeSmallFile(this.fs, this.path, STOP_MARK, Buffer.from(`${text} ${crcText(text)}\n`));
  }

  /**
   * Returns the index at which the log ended at the last clean stop; undefined when the last stop
   * was not clean. Removes the mark, durably: from now on the log may get shorter, when a later
   * leader replaces uncommitted entries.
   */
  async takeStopMark(): Promise<number | undefined> {
    const file = `${this.path}/${STOP_MARK}`;
    // The power may have failed during the write.
    if (await this.fs.exists(`${file}.tmp`)) await this.fs.unlink(`${file}.tmp`);
    if (!(await this.fs.exists(file))) return undefined;
    const index = await readStopMark(this.fs, this.path);
    await this.fs.unlink(file);
    await this.fs.syncDirectory(this.path);
    return index;
  }

  /** See {@link DirectoryLock.onLost}. */
  onLost(callback: (error: CairnError) => void): void {
    this.lock.onLost(callback);
  }

  /** Releases the lock, so that other processes can open the directory. */
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

/**
 * Checks the members of a cluster, and returns them in order of id, the order in all other code.
 * @throws CairnError INVALID_ARGUMENT
 */
export function checkMembers(members: Membership): Membership {
  const ordered = [...members].sort((a, b) => (a.id < b.id ? -1 : 1));
  const problem = membersProblem(ordered);
  if (problem !== undefined) throw new CairnError("INVALID_ARGUMENT", problem);
  return ordered;
}

/**
 * Returns the index at which the log ended at the last clean stop; undefined without a mark, or
 * with a damaged one, which proves nothing.
 */
export async function readStopMark(fs: FileSystem, path: string): Promise<number | undefined> {
  const file = `${path}/${STOP_MARK}`;
  if (!(await fs.exists(file))) return undefined;
  const found = STOP_MARK_TEXT.exec((await readSmallFile(fs, file)).toString());
  return found === null || found[3] !== crcText(found[1]!) ? undefined : Number(found[2]);
}

function crcText(text: string): string {
  return crc32(text).toString(16).padStart(8, "0");
}

async function hasData(fs: FileSystem, path: string): Promise<boolean> {
  return (await fs.list(path)).some((name) => DATA.includes(name));
}

/** Makes a directory so that no power failure can take it away together with its contents. */
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

function checkIdentity(path: string, found: Identity, wanted: { nodeId: string; clusterId: string | undefined }): void {
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
    `data directory ${path} holds ${strange.join(", ")} but no ${IDENTITY_FILE}, so it is not known whose data this is. ` +
      DAMAGED_MEMBER,
  );
}

async function refuseAnyData(fs: FileSystem, path: string): Promise<void> {
  const found = (await fs.list(path)).filter((name) => [IDENTITY_FILE, ...DATA].includes(name));
  if (found.length === 0) return;
  const text = `data directory ${path} holds ${found.join(", ")}: existing data is never overwritten`;
  throw new CairnError("DATA_DIRECTORY", `${text}. Give another directory, or move what is there away.`);
}
