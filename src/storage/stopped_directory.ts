import { join, resolve } from "node:path";
import { CairnError } from "../base/errors.js";
import type { FileSystem } from "../system/fs.js";
import { readStopMark } from "./data_dir.js";
import { IDENTITY_FILE, type Identity, readIdentity } from "./identity.js";
import { DirectoryLock, type LockOptions } from "./lock.js";

/**
 * A data directory that no node has open, for tools that read it and change nothing in it: a
 * read-only file system serves, too.
 */
export class StoppedDirectory {
  private constructor(
    readonly fs: FileSystem,
    /** Absolute. */
    readonly path: string,
    /** Undefined when the directory belongs to nobody, or when {@link identityProblem} says why. */
    readonly identity: Identity | undefined,
    readonly identityProblem: string | undefined,
    /** Checks that no process has opened the directory since. @throws CairnError DATA_DIRECTORY */
    readonly expectUntouched: () => Promise<void>,
  ) {}

  /**
   * @throws CairnError NOT_FOUND when there is no data directory at this path; DATA_DIRECTORY when
   * a process has it open
   */
  static async open(fs: FileSystem, at: string, options: LockOptions = {}): Promise<StoppedDirectory> {
    const path = resolve(at);
    await expectDataDirectory(fs, path);
    const expectUntouched = await DirectoryLock.expectFree(fs, path, options);
    try {
      return new StoppedDirectory(fs, path, await readIdentity(fs, path), undefined, expectUntouched);
    } catch (error) {
      return new StoppedDirectory(fs, path, undefined, CairnError.from(error).text, expectUntouched);
    }
  }

  get log(): string {
    return join(this.path, "wal");
  }

  get snapshots(): string {
    return join(this.path, "snapshots");
  }

  get state(): string {
    return join(this.path, "state");
  }

  /** Returns the index at which the log ended at the last clean stop; undefined after any other. */
  stoppedAt(): Promise<number | undefined> {
    return readStopMark(this.fs, this.path);
  }

  names(): Promise<string[]> {
    return this.fs.list(this.path);
  }
}

/** @throws CairnError NOT_FOUND */
async function expectDataDirectory(fs: FileSystem, path: string): Promise<void> {
  if (!(await fs.exists(path))) throw new CairnError("NOT_FOUND", `${path} does not exist`);
  const names = await fs.list(path);
  if (names.includes(IDENTITY_FILE) || names.includes("wal")) return;
  const inside: string[] = [];
  for (const name of names.sort()) if (await fs.exists(join(path, name, IDENTITY_FILE))) inside.push(join(path, name));
  const advice = inside.length === 0 ? "give the data directory of a node" : `give one of ${inside.join(", ")}`;
  throw new CairnError("NOT_FOUND", `${path} is not a data directory, it has no ${IDENTITY_FILE}: ${advice}`);
}
