import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { CairnError, hasCode } from "../errors.js";
import { type FileSystem, readSmallFile } from "./fs.js";

/** Who holds a lock. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Tells apart two processes that had the same pid; empty where the system does not say. */
  readonly started: string;
  /** Of this one lock: tells apart those that one process has held. */
  readonly token: string;
  readonly released?: boolean;
}

/** Tokens of the locks that this process holds, or is about to take. */
const heldHere = new Set<string>();

/**
 * A lock on a directory, held by one process on one host, taken over from a process that is dead.
 *
 * Lock files are named `lock.<n>`; the one with the highest number counts. To take the lock is to create the next number, which only one
 * process can do; the file is complete from the start because it is linked from a finished one. The highest file is never removed, only
 * marked as released, so numbers never come back, and whoever acted on an old listing sees a higher number afterwards and gives way.
 */
export class DirectoryLock {
  #released = false;

  private constructor(
    private readonly fs: FileSystem,
    private readonly file: string,
    private readonly self: Holder,
  ) {}

  /** Throws CairnError DATA_DIRECTORY when a living process holds the lock. */
  static async acquire(fs: FileSystem, directory: string): Promise<DirectoryLock> {
    const token = randomUUID();
    heldHere.add(token);
    try {
      const started = (await startOf(process.pid)) ?? "";
      const self: Holder = { pid: process.pid, host: hostname(), started, token };
      return new DirectoryLock(fs, await take(fs, directory, self), self);
    } catch (error) {
      heldHere.delete(token);
      throw error;
    }
  }

  /** Gives the lock back; may be called more than once. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    try {
      await writeHolder(this.fs, `${this.file}${RELEASED}`, { ...this.self, released: true });
      await this.fs.rename(`${this.file}${RELEASED}`, this.file);
    } catch (error) {
      if (!hasCode(error, "DISK_FULL")) throw error;
      // The lock stays as it is, and its holder counts as dead from now on: for this process at once, for others when it ends.
      await this.fs.unlink(`${this.file}${RELEASED}`).catch(ignoreMissing);
    } finally {
      heldHere.delete(this.self.token);
    }
  }

  /** Forgets the lock without giving it back, as a crash does: the file stays, and its holder counts as dead. */
  abandon(): void {
    this.#released = true;
    heldHere.delete(this.self.token);
  }
}

const RELEASED = ".released";
const DRAFT = "lock-draft.";

async function take(fs: FileSystem, directory: string, self: Holder): Promise<string> {
  const draft = `${directory}/${DRAFT}${self.pid}.${self.token}`;
  try {
    await writeHolder(fs, draft, self);
    for (;;) {
      const top = await highest(fs, directory);
      if (top > 0) await assertDead(fs, directory, `${directory}/lock.${top}`, self);
      const own = top + 1;
      try {
        await fs.link(draft, `${directory}/lock.${own}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EEXIST") continue;
        throw error;
      }
      if ((await highest(fs, directory)) === own) {
        await removeOld(fs, directory, own, self);
        return `${directory}/lock.${own}`;
      }
      await fs.unlink(`${directory}/lock.${own}`);
    }
  } finally {
    await fs.unlink(draft).catch(ignoreMissing);
  }
}

async function assertDead(fs: FileSystem, directory: string, file: string, self: Holder): Promise<void> {
  const holder = await readHolder(fs, file);
  if (holder === undefined || holder.released) return;
  if (holder.host !== self.host) {
    const advice = `If that host is gone for good, remove ${file} and start again.`;
    throw inUse(directory, `pid ${holder.pid} on host ${holder.host}`, advice);
  }
  if (heldHere.has(holder.token))
    throw inUse(directory, `this process (pid ${self.pid})`, "Stop the node that uses it.");
  // A lock of this very process that is not in `heldHere` was abandoned.
  if (holder.pid === self.pid || !isAlive(holder.pid)) return;
  const started = await startOf(holder.pid);
  if (started !== undefined && holder.started !== "" && started !== holder.started) return;
  throw inUse(directory, `pid ${holder.pid}`, "Stop that process, or choose another directory.");
}

function inUse(directory: string, holder: string, advice: string): CairnError {
  return new CairnError("DATA_DIRECTORY", `data directory ${directory} is in use by ${holder}. ${advice}`.trimEnd());
}

async function highest(fs: FileSystem, directory: string): Promise<number> {
  return Math.max(0, ...(await numbers(fs, directory)));
}

/** Removes the locks below this node's own, and what dead processes have left half-done. */
async function removeOld(fs: FileSystem, directory: string, own: number, self: Holder): Promise<void> {
  for (const name of await fs.list(directory)) {
    const [, number] = /^lock\.(\d+)(?:\.released)?$/.exec(name) ?? [];
    const [, pid, token = ""] = /^lock-draft\.(\d+)\.(.+)$/.exec(name) ?? [];
    const isOld = number !== undefined && Number(number) < own;
    const isDead = pid !== undefined && (Number(pid) === self.pid ? !heldHere.has(token) : !isAlive(Number(pid)));
    if (isOld || isDead) await fs.unlink(`${directory}/${name}`).catch(ignoreMissing);
  }
}

async function numbers(fs: FileSystem, directory: string): Promise<number[]> {
  const names = await fs.list(directory);
  return names.flatMap((name) => (/^lock\.\d+$/.test(name) ? [Number(name.slice("lock.".length))] : []));
}

async function writeHolder(fs: FileSystem, path: string, holder: Holder): Promise<void> {
  const file = await fs.open(path, "create");
  try {
    await file.write([Buffer.from(JSON.stringify(holder))], 0);
  } finally {
    await file.close();
  }
}

/** Undefined when the file is gone, or was lost in a power failure: then nobody holds the lock. */
async function readHolder(fs: FileSystem, file: string): Promise<Holder | undefined> {
  try {
    const found: unknown = JSON.parse((await readSmallFile(fs, file)).toString());
    const holder = (found ?? {}) as Partial<Holder>;
    return typeof holder.pid === "number" && typeof holder.host === "string" ? (holder as Holder) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    ignoreMissing(error);
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** When a process started, in the system's own terms; undefined where the system does not say (anything but Linux). */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    const boot = (await readFile("/proc/sys/kernel/random/boot_id", "latin1")).trim();
    // Fields are counted behind the command's name, which may hold anything; the start time is the 22nd field.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return `${boot}/${fields[19]}`;
  } catch {
    return undefined;
  }
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException | null)?.code !== "ENOENT") throw error;
}
